//! What GPUs are told by the environment: where drivers keep compiled kernels, and that compiling them need not be traced.
#![allow(unsafe_code)]

use std::env;
use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;

use crate::fault::WrongUsage;

/// The variables by which drivers are told: NVIDIA's, whether, that nothing old is thrown away, and where; and Mesa's.
const SWITCHES: [(&str, &str); 2] =
    [("__GL_SHADER_DISK_CACHE", "1"), ("__GL_SHADER_DISK_CACHE_SKIP_CLEANUP", "1")];
const PLACES: [&str; 2] = ["__GL_SHADER_DISK_CACHE_PATH", "MESA_SHADER_CACHE_DIR"];

/// Has errors made without traces, unless `RUST_LIB_BACKTRACE` says otherwise; panics keep theirs. Else, with
/// `RUST_BACKTRACE=1`, half of the time of the framework's compiler goes into errors that it makes to ask what a type
/// is. To be called before any thread is started.
pub fn leave_out_traces() {
    const TRACES: &str = "RUST_LIB_BACKTRACE";
    if env::var_os(TRACES).is_none() {
        set(TRACES, "0".as_ref());
    }
}

/// Has drivers keep compiled kernels in `folder`, which tasks may share. To be called before any thread is started.
///
/// # Errors
/// [`WrongUsage`] if it cannot be made or written to: drivers would say nothing.
pub fn keep_kernels(folder: &Path) -> Result<()> {
    let wrong = |why| {
        let place = folder.display();
        WrongUsage(format!("--kernel-cache {place}: {why}; name a folder that can be written to"))
    };
    std::fs::create_dir_all(folder).map_err(wrong)?;
    let tried = folder.join(format!(".marscan-{}", std::process::id()));
    std::fs::write(&tried, "").and_then(|()| std::fs::remove_file(&tried)).map_err(wrong)?;
    let folder = folder.canonicalize().map_err(wrong)?;
    let places = PLACES.map(|name| (name, folder.as_os_str()));
    for (name, value) in SWITCHES.map(|(name, value)| (name, value.as_ref())).into_iter().chain(places) {
        set(name, value);
    }
    Ok(())
}

fn set(name: &str, value: &OsStr) {
    // SAFETY: who calls what is public has started no thread that could read the environment meanwhile.
    unsafe { env::set_var(name, value) };
}
