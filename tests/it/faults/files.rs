//! Disks that are full, refuse or lie, and files that are damaged.

use std::fs;
use std::process::Command;

use super::{FAST, bytes, discs, merged, run, said, scan, strace, tampered, undisturbed};
use crate::files::marscan_command;

/// How often a run makes a system call.
fn calls(call: &str, args: &[String]) -> usize {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-e", &format!("trace={call}"), "-o", log.path().to_str().unwrap()]);
    let ended = command.arg(marscan_command().get_program()).args(args).output().unwrap();
    assert!(ended.status.success(), "{}", said(&ended));
    String::from_utf8_lossy(&bytes(log.path())).matches(&format!("{call}(")).count()
}

#[test]
fn an_error_of_any_write_sync_or_rename_names_the_file_and_leaves_nothing_half_written() {
    if !strace() {
        return;
    }
    let folder = discs();
    let wanted = undisturbed(folder.path(), &FAST);
    for (call, error, says) in [
        ("write", "ENOSPC", "No space left"),
        ("write", "EDQUOT", "quota"),
        ("fsync", "EIO", "Input/output error"),
        ("rename", "EIO", "Input/output error"),
        ("mkdir", "EACCES", "Permission denied"),
        ("mkdir", "EROFS", "Read-only"),
        ("ftruncate", "EIO", "Input/output error"),
    ] {
        let mut failed = 0;
        let all = calls(call, &scan(folder.path(), &format!("count-{call}-{error}"), &FAST));
        for when in 1..=all {
            let out = format!("{call}-{error}-{when}");
            let args = scan(folder.path(), &out, &FAST);
            let ended = tampered(call, &format!("error={error}"), when, &args);
            let text = said(&ended);
            let shard = folder.path().join(&out).join("shards/shard-00000-of-00001");
            if ended.status.success() {
                // A line to the terminal was lost, or the folder's last sync after it was published.
                assert!(shard.exists(), "{call} {when}: {text}");
            } else {
                assert_eq!(ended.status.code(), Some(1), "{call} {when}: {text}");
                // The message itself is a write, and may be the one that was lost.
                let told = text.contains(&out) && text.contains(says);
                assert!(told || call == "write", "{call} {when}: {text}");
                failed += usize::from(told);
            }
            if !shard.exists() {
                let again = run(&args);
                assert!(again.status.success(), "{call} {when}: {}", said(&again));
            }
            assert_eq!(merged(folder.path(), &out), wanted, "{call} {error} {when}");
        }
        assert!(failed > 0, "{call} {error}: none of {all} failed");
    }
}

#[test]
fn a_merge_that_cannot_write_leaves_the_old_catalogue() {
    if !strace() {
        return;
    }
    let folder = discs();
    let wanted = undisturbed(folder.path(), &FAST);
    let out = folder.path().join("undisturbed");
    let args = ["merge".to_owned(), out.to_str().unwrap().to_owned()];
    let mut failed = 0;
    for (call, error) in [("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EIO")] {
        for when in 1..=calls(call, &args) {
            let ended = tampered(call, &format!("error={error}"), when, &args);
            if !ended.status.success() {
                let text = said(&ended);
                assert!(
                    ended.status.code() == Some(1) && text.contains("undisturbed"),
                    "{call} {when}: {text}"
                );
                failed += 1;
            }
            assert_eq!(bytes(out.join("catalogue.csv")), wanted, "{call} {when}");
        }
    }
    assert!(failed > 8, "only {failed} failed");
    let parts =
        fs::read_dir(&out).unwrap().flatten().filter(|f| f.file_name().to_string_lossy().ends_with("part"));
    assert_eq!(parts.count(), 0, "leftovers");
}

#[test]
fn a_file_size_limit_is_an_error_with_a_name() {
    let folder = discs();
    let args = scan(folder.path(), "out", &FAST);
    let limited = |args: &[String]| {
        let mut command = Command::new("bash");
        let program = marscan_command().get_program().to_owned();
        command.args(["-c", "ulimit -f 1; exec \"$@\"", "bash"]).arg(program).args(args).output().unwrap()
    };
    let ended = limited(&args);
    let text = said(&ended);
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("File too large") && text.contains("out"), "{text}");
    let again = run(&args);
    assert!(again.status.success(), "{}", said(&again));
    assert!(merged(folder.path(), "out").len() > 100);
}

#[test]
fn a_disk_that_is_really_full_is_an_error_and_what_is_kept_goes_on_when_there_is_room() {
    let folder = discs();
    let wanted = undisturbed(folder.path(), &FAST);
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk.to_str().unwrap()];
    if !Command::new("mount").args(mount).output().is_ok_and(|ended| ended.status.success()) {
        println!("not run: a small disk cannot be mounted here");
        return;
    }
    fs::write(disk.join("filler"), vec![0; 1012 << 10]).unwrap();
    let ended = run(&scan(folder.path(), "disk", &FAST));
    fs::remove_file(disk.join("filler")).unwrap();
    let again = run(&scan(folder.path(), "disk", &FAST));
    let published = merged_if(again.status, folder.path());
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    let text = said(&ended);
    assert!(
        ended.status.code() == Some(1) && text.contains("No space left") && text.contains("disk"),
        "{text}"
    );
    assert!(unmounted.success() && again.status.success(), "{}", said(&again));
    assert_eq!(published, Some(wanted));
}

/// The catalogue, unless the scan failed: the disk must be unmounted before anything may panic.
fn merged_if(status: std::process::ExitStatus, folder: &std::path::Path) -> Option<Vec<u8>> {
    let out = folder.join("disk");
    let merge = run(&["merge".into(), out.to_str()?.into()]);
    (status.success() && merge.status.success()).then(|| fs::read(out.join("catalogue.csv")).ok())?
}

#[test]
fn a_write_that_the_system_lies_about_is_found_at_merge() {
    if !strace() {
        return;
    }
    let folder = discs();
    let wanted = undisturbed(folder.path(), &FAST);
    let mut found = 0;
    for when in 1..=calls("write", &scan(folder.path(), "count", &FAST)) {
        let out = format!("lie-{when}");
        // The call says that it wrote a byte, and wrote nothing.
        let ended = tampered("write", "retval=1", when, &scan(folder.path(), &out, &FAST));
        assert!(ended.status.success(), "{when}: {}", said(&ended));
        let place = folder.path().join(&out);
        let merge = run(&["merge".into(), place.to_str().unwrap().into()]);
        if merge.status.success() {
            assert_eq!(bytes(place.join("catalogue.csv")), wanted, "{when}");
        } else {
            assert!(said(&merge).contains("scan this shard again"), "{when}: {}", said(&merge));
            found += 1;
        }
    }
    assert!(found >= 4, "{found} were found; four tables and shard.json are written");
}

#[test]
fn a_bit_turned_over_anywhere_in_a_published_shard_is_found_at_merge() {
    let folder = discs();
    undisturbed(folder.path(), &FAST);
    let out = folder.path().join("undisturbed");
    let shard = out.join("shards/shard-00000-of-00001");
    for name in ["impacts.csv", "seams.csv", "settings.toml", "timing.csv", "shard.json"] {
        let whole = bytes(shard.join(name));
        for at in (0..whole.len()).step_by(whole.len().div_ceil(25)) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(shard.join(name), &damaged).unwrap();
            let merge = run(&["merge".into(), out.to_str().unwrap().into()]);
            let text = said(&merge);
            assert_eq!(merge.status.code(), Some(1), "byte {at} of {name}: {text}");
            assert!(
                text.contains(name) && text.contains("scan this shard again"),
                "byte {at} of {name}: {text}"
            );
        }
        fs::write(shard.join(name), whole).unwrap();
    }
    merged(folder.path(), "undisturbed");
}

/// The program as a user that may not read everything, and the files that are to be its own; `None`, and says so,
/// where there is no such user.
fn as_somebody(folder: &std::path::Path) -> Option<impl Fn(&[String]) -> std::process::Output> {
    // The program's own folder may be root's alone.
    let program = folder.join("marscan");
    fs::copy(marscan_command().get_program(), &program).unwrap();
    let quiet = |args: &[&str]| Command::new(args[0]).args(&args[1..]).output();
    let root = quiet(&["id", "-u"]).is_ok_and(|ended| ended.stdout == b"0\n");
    let user: &[&str] = if root {
        let place = folder.to_str()?;
        assert!(quiet(&["chown", "-R", "65534:65534", place]).unwrap().status.success());
        &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    } else {
        &["env"]
    };
    if !quiet(&[user, &["true"]].concat()).is_ok_and(|ended| ended.status.success()) {
        println!(
            "not run: root may read everything, and setpriv is not installed (apt-get install util-linux)"
        );
        return None;
    }
    let user: Vec<String> = user.iter().map(|part| (*part).to_owned()).collect();
    Some(move |args: &[String]| {
        Command::new(&user[0]).args(&user[1..]).arg(&program).args(args).output().unwrap()
    })
}

#[test]
fn a_file_that_may_not_be_read_is_named_with_the_cause() {
    let folder = discs();
    let pixels = vec![90; 300 * 200];
    crate::files::tiff(&folder.path().join("secret.tif"), 200, &pixels);
    let list = "file_name,height,width\ndiscs,300,200\nsecret,300,200\n";
    fs::write(folder.path().join("scenes.csv"), list).unwrap();
    let Some(run) = as_somebody(folder.path()) else { return };
    let forbid = |path: &std::path::Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let secret = folder.path().join("secret.tif");
    forbid(&secret, 0o000);
    let ended = run(&scan(folder.path(), "out", &FAST));
    let text = said(&ended);
    assert_eq!(ended.status.code(), Some(3), "{text}");
    assert!(text.contains(secret.to_str().unwrap()) && text.contains("Permission denied"), "{text}");
    let out = folder.path().join("out");
    let merge = ["merge".to_owned(), out.to_str().unwrap().to_owned()];
    for name in ["impacts.csv", "timing.csv", "settings.toml", "shard.json", ""] {
        let path = out.join("shards/shard-00000-of-00001").join(name);
        let mode = fs::metadata(&path).unwrap().permissions();
        forbid(&path, 0o000);
        let ended = run(&merge);
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(path.to_str().unwrap().trim_end_matches('/')), "{name}: {text}");
        assert!(text.contains("Permission denied"), "{name}: {text}");
        fs::set_permissions(&path, mode).unwrap();
    }
    let ended = run(&merge);
    assert_eq!(ended.status.code(), Some(3), "{}", said(&ended));
}
