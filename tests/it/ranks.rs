//! Several processes as one: four ranks of this very test program, where MPI is built in and installed.

use std::process::{Command, Output};

/// Runs the ignored test `name` of this binary under `mpirun` as `ranks` processes; `None`, and says so,
/// without MPI.
fn mpirun(ranks: &str, name: &str) -> Option<Output> {
    if !cfg!(feature = "mpi") {
        println!("not run: built without the feature `mpi`");
        return None;
    }
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "-np", ranks]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(name, "1");
    }
    let output = command.output().ok();
    if output.is_none() {
        println!("not run: mpirun is not installed (apt-get install openmpi-bin)");
    }
    output
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[test]
fn four_ranks_sum_and_broadcast_to_the_same_bits() {
    let Some(output) = mpirun("4", "ranks::a_rank_that_sums") else { return };
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for rank in 0..4 {
        assert!(text.contains(&format!("rank {rank} of 4 is right")), "{text}");
    }
}

#[test]
fn a_rank_that_fails_names_itself_and_ends_the_others() {
    let Some(output) = mpirun("3", "ranks::a_rank_that_fails") else { return };
    let text = text(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("rank 1 of 3 on ") && text.contains("crop 7 is broken"), "{text}");
}

#[test]
fn ranks_that_cannot_join_each_other_are_refused_before_any_work() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "ranks::a_rank_that_sums", "--ignored", "--nocapture"]);
    command.env_remove("OMPI_COMM_WORLD_SIZE").env_remove("PMI_SIZE").env_remove("PMIX_RANK");
    let output = command.env("SLURM_STEP_NUM_TASKS", "2").output().unwrap();
    let text = text(&output);
    assert!(!output.status.success() && text.contains("srun --mpi=pmix"), "{text}");
}

#[test]
#[ignore = "run by the test above, as one of several"]
fn a_rank_that_sums() {
    marscan::ranks::together(
        |line| println!("{line}"),
        |world| {
            let (rank, size) = (world.rank(), world.size());
            // More than two buckets of a broadcast, and no multiple of one.
            let count = (2 << 20) + 12_345;
            let mine = |rank: usize, k: usize| ((k * 31 + rank * 977) % 8191) as f32 * 0.37 - 1000.0;
            let all: Vec<f32> = (0..count).map(|k| mine(rank, k)).collect();
            // The last piece first; other sums are made between them, on each rank at another time.
            let bounds = [0, 7, 7, 300_000, 300_001, count];
            let mut between = bounds.windows(2).rev().map(|bounds| {
                let mut others = [rank as f64];
                std::thread::sleep(std::time::Duration::from_millis(rank as u64 * 5));
                world.sum_f64(&mut others);
                assert_eq!(others[0] as usize, size * (size - 1) / 2);
                all[bounds[0]..bounds[1]].to_vec()
            });
            let sums = world.sum_pieces(count, &mut between);
            for k in [0, 1, (1 << 20) - 1, 1 << 20, count - 1] {
                let wanted: f32 = (0..size).map(|rank| mine(rank, k)).sum();
                assert!((sums[k] - wanted).abs() <= 1e-3, "{k}: {} and not {wanted}", sums[k]);
            }
            let mut first = if rank == 0 { sums.clone() } else { vec![0.0; count] };
            world.broadcast(&mut first);
            assert!(first.iter().zip(&sums).all(|(a, b)| a.to_bits() == b.to_bits()), "other bits on {rank}");
            let mut pair = [rank as f64, 0.5];
            world.sum_f64(&mut pair);
            let wanted = [(size * (size - 1) / 2) as f64, 0.5 * size as f64];
            assert_eq!(pair.map(f64::to_bits), wanted.map(f64::to_bits));
            let mut words = if rank == 0 { b"of rank 0".to_vec() } else { vec![9; 100] };
            world.broadcast_bytes(&mut words);
            assert_eq!(words, b"of rank 0");
            assert!(world.agree(rank == size - 1) && !world.agree(false));
            assert_eq!((world.hosts().len(), world.local_rank()), (size, rank), "one host here");
            // Another thread may call, in its turn.
            let mut one = [1.0];
            std::thread::scope(|scope| scope.spawn(|| world.sum_f64(&mut one)).join()).unwrap();
            assert_eq!(one[0].to_bits(), (size as f64).to_bits());
            world.barrier();
            println!("rank {rank} of {size} is right");
            Ok(())
        },
    )
    .unwrap();
}

#[test]
#[ignore = "run by the test above, as one of several"]
fn a_rank_that_fails() {
    let outcome = marscan::ranks::together(
        |line| println!("{line}"),
        |world| {
            anyhow::ensure!(world.rank() != 1, "crop 7 is broken");
            // The others wait for it here, and would for ever.
            world.barrier();
            Ok(())
        },
    );
    panic!("it came back: {outcome:?}");
}
