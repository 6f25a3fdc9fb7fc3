//! The processor's matrix unit (Intel's AMX): registers of 16 rows of 64 bytes, and products of two of them, bf16 by
//! bf16, added to a third of f32.
//!
//! Rust has no stable functions for these instructions, so they stand here as assembler: the network's only unsafe
//! code. What it reads and writes are slices whose lengths are checked in safe code before.

#![allow(unsafe_code)]

use burn::tensor::bf16;

pub use self::amx::{Available, Registers};
use super::half::Bf16Lanes;
use crate::unet::direct::kernel::{BLOCK, Lanes};

/// Pixels of an answer that are computed at once.
pub const STRIP: usize = 32;

/// The weights from one block of inputs to one block of outputs at one place: of even outputs, then of odd ones,
/// `[pair of inputs][output][2]`, which is how the unit reads the second factor.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Factor(pub [[[[bf16; 2]; BLOCK / 2]; BLOCK / 2]; 2]);

/// The sums of a strip, in each pixel those of even outputs first.
#[repr(C, align(64))]
pub struct Sums(pub [Lanes; STRIP]);

/// A sum of products that a row of strips is made of: each pixel's, of a block of channels at one place.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Step<'a> {
    first: *const Bf16Lanes,
    apart_bytes: usize,
    pixels: &'a [Bf16Lanes],
}

/// All of a row's, for as many strips.
pub struct Steps<'a> {
    each: Vec<Step<'a>>,
    strips: usize,
}

impl<'a> Steps<'a> {
    /// For `strips`, and none yet.
    pub fn new(strips: usize) -> Self {
        Self { each: Vec::new(), strips }
    }

    /// How many strips there are.
    pub fn strips(&self) -> usize {
        self.strips
    }

    /// Reads of `pixels` every `apart`th, from the first on.
    ///
    /// # Panics
    /// If they are too few.
    pub fn push(&mut self, pixels: &'a [Bf16Lanes], apart: usize) {
        let last = (self.strips * STRIP).saturating_sub(1) * apart;
        assert!(last < pixels.len(), "a row of {} pixels is read at {last}", pixels.len());
        self.each.push(Step { first: pixels.as_ptr(), apart_bytes: apart * size_of::<Bf16Lanes>(), pixels });
    }

    /// The pixels of a strip that a step reads.
    #[cfg(test)]
    pub fn read(&self, step: usize, strip: usize) -> impl Iterator<Item = &'a Bf16Lanes> {
        let Step { apart_bytes, pixels, .. } = self.each[step];
        let apart = apart_bytes / size_of::<Bf16Lanes>();
        (0..STRIP).map(move |k| &pixels[(strip * STRIP + k) * apart])
    }
}

/// What can multiply, on the thread that it was begun on.
pub trait Multiply {
    /// What it takes to begin.
    type Leave: Copy + Send + Sync;

    /// Ready for strips.
    fn begin(leave: Self::Leave) -> Self;

    /// `sums[pixel] = bias + sum of steps' pixels * factors`, of a strip; the factors of the first steps, then
    /// those of the others.
    ///
    /// # Panics
    /// If there is no such strip, or not one factor a step, and of the first ones at least one.
    fn strip(
        &mut self,
        steps: &Steps<'_>,
        strip: usize,
        factors: [&[Factor]; 2],
        bias: &Lanes,
        sums: &mut Sums,
    );
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;
    use std::marker::PhantomData;
    use std::sync::OnceLock;

    use super::{Factor, Lanes, Multiply, STRIP, Steps, Sums};

    /// Proof that the processor has the unit and the system lets this process use it.
    #[derive(Clone, Copy, Debug)]
    pub struct Available(());

    /// The unit's registers, all laid out as whole ones for this thread until they are given back; one at a time on a
    /// thread, or the first that goes takes them from the other.
    pub struct Registers {
        /// They are the thread's.
        stays: PhantomData<*const ()>,
    }

    impl Available {
        /// Asks the processor, and the system for the leave to use it, which holds for the whole process.
        pub fn ask() -> Option<Self> {
            /// Linux: "may this process use the state of tiles?" (`ARCH_REQ_XCOMP_PERM`, `XFEATURE_XTILEDATA`).
            const REQUEST: (libc::c_int, libc::c_ulong) = (0x1023, 18);
            /// Leaf 7: tiles with products of bf16, and tiles.
            const FEATURES: u32 = 1 << 22 | 1 << 24;
            static ASKED: OnceLock<bool> = OnceLock::new();
            let there = ASKED.get_or_init(|| {
                __cpuid_count(0, 0).eax >= 7
                    && __cpuid_count(7, 0).edx & FEATURES == FEATURES
                    // SAFETY: the call changes nothing but which instructions are allowed.
                    && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST.0, REQUEST.1) } == 0
            });
            there.then_some(Self(()))
        }
    }

    impl Drop for Registers {
        fn drop(&mut self) {
            // SAFETY: as above; nothing else on this thread uses them.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }

    impl Multiply for Registers {
        type Leave = Available;

        fn begin(_: Available) -> Self {
            #[repr(C, align(64))]
            struct Layout {
                palette: u8,
                start_row: u8,
                reserved: [u8; 14],
                row_bytes: [u16; 16],
                rows: [u8; 16],
            }
            let mut layout =
                Layout { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
            layout.row_bytes[..8].fill(64);
            layout.rows[..8].fill(16);
            // SAFETY: the unit is there, and may be used: `Available` is proof. The layout is one that it has.
            unsafe {
                asm!("ldtilecfg [{layout}]", layout = in(reg) &raw const layout, options(nostack, readonly));
            }
            Self { stays: PhantomData }
        }

        fn strip(
            &mut self,
            steps: &Steps<'_>,
            strip: usize,
            [first, then]: [&[Factor]; 2],
            bias: &Lanes,
            sums: &mut Sums,
        ) {
            assert!(strip < steps.strips && !first.is_empty());
            assert_eq!(first.len() + then.len(), steps.each.len());
            // SAFETY: the registers are laid out, as long as `self` lives, on this thread. Reads: of `bias` 128 bytes,
            // its whole; of each step 16 pixels and 16 more from `strip * STRIP` on, `apart_bytes` apart, which
            // `Steps::push` has checked against the row's length, each whole; a `Factor` of 2048 bytes a step, as
            // many as are counted above. Written: the 32 rows of 128 bytes of `sums`.
            unsafe {
                asm!(
                    // Sums 0 and 1 are of the first 16 pixels, 2 and 3 of the others; 0 and 2 of even outputs.
                    "tileloadd tmm0, [{pixels} + {zero}*1]",
                    "tileloadd tmm1, [{pixels} + {zero}*1 + 64]",
                    "tileloadd tmm2, [{pixels} + {zero}*1]",
                    "tileloadd tmm3, [{pixels} + {zero}*1 + 64]",
                    "2:",
                    "mov {apart}, [{step} + 8]",
                    "mov {pixels}, {skip}",
                    "imul {pixels}, {apart}",
                    "add {pixels}, [{step}]",
                    "tileloadd tmm4, [{pixels} + {apart}*1]",
                    "tileloadd tmm6, [{factor} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{factor} + {row}*1 + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "mov {half}, {apart}",
                    "shl {half}, 4",
                    "add {pixels}, {half}",
                    "tileloadd tmm5, [{pixels} + {apart}*1]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {step}, {size}",
                    "add {factor}, 2048",
                    "dec {count}",
                    "jnz 2b",
                    // Once more for the other factors, if there are any.
                    "mov {factor}, {then}",
                    "mov {count}, {more}",
                    "mov {more}, {zero}",
                    "test {count}, {count}",
                    "jnz 2b",
                    "lea {row}, [{row}*2]",
                    "tilestored [{sums} + {row}*1], tmm0",
                    "tilestored [{sums} + {row}*1 + 64], tmm1",
                    "tilestored [{sums} + {row}*1 + 2048], tmm2",
                    "tilestored [{sums} + {row}*1 + 2112], tmm3",
                    pixels = inout(reg) bias.as_ptr() => _,
                    zero = in(reg) 0usize,
                    apart = out(reg) _,
                    half = out(reg) _,
                    step = inout(reg) steps.each.as_ptr() => _,
                    skip = in(reg) strip * STRIP,
                    factor = inout(reg) first.as_ptr() => _,
                    then = in(reg) then.as_ptr(),
                    count = inout(reg) first.len() => _,
                    more = inout(reg) then.len() => _,
                    row = inout(reg) 64usize => _,
                    sums = in(reg) sums.0.as_mut_ptr(),
                    size = const size_of::<super::Step<'_>>(),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

/// Another kind of processor, or system: there is none, and nothing that claims to be one.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod amx {
    use super::{Factor, Lanes, Multiply, Steps, Sums};

    #[derive(Clone, Copy, Debug)]
    pub enum Available {}

    pub enum Registers {}

    impl Available {
        /// There is none.
        pub fn ask() -> Option<Self> {
            None
        }
    }

    impl Multiply for Registers {
        type Leave = Available;

        fn begin(leave: Available) -> Self {
            match leave {}
        }

        fn strip(&mut self, _: &Steps<'_>, _: usize, _: [&[Factor]; 2], _: &Lanes, _: &mut Sums) {
            match *self {}
        }
    }
}

/// What the unit does, said again: in its order of sums, to the last bit.
#[cfg(test)]
pub struct Plain;

#[cfg(test)]
impl Multiply for Plain {
    type Leave = ();

    fn begin((): ()) -> Self {
        Self
    }

    fn strip(
        &mut self,
        steps: &Steps<'_>,
        strip: usize,
        [first, then]: [&[Factor]; 2],
        bias: &Lanes,
        sums: &mut Sums,
    ) {
        sums.0 = [*bias; STRIP];
        for (step, factor) in first.iter().chain(then).enumerate() {
            let weights = factor.0.map(|half| half.map(|pair| pair.map(|both| both.map(f32::from))));
            for (pixel, sums) in steps.read(step, strip).zip(&mut sums.0) {
                let pairs = pixel.0.map(|word| [word as u16, (word >> 16) as u16]);
                let pairs = pairs.map(|both| both.map(|bits| bf16::from_bits(bits).to_f32()));
                for (output, sum) in sums.iter_mut().enumerate() {
                    let (half, output) = (output / (BLOCK / 2), output % (BLOCK / 2));
                    let mut products = [0.0; 2];
                    for (pair, of_pair) in pairs.iter().zip(&weights[half]) {
                        products[0] += pair[0] * of_pair[output][0];
                        products[1] += pair[1] * of_pair[output][1];
                    }
                    *sum += products[0] + products[1];
                }
            }
        }
    }
}
