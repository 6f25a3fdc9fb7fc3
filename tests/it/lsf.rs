//! The scripts of `lsf/` on a stand-in for LSF (`bsub.rs`).

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::bsub::{Job, Lsf, words};
use crate::files::{bytes, marscan, succeed, tiff};
use crate::processes::{told_in_the_middle, told_while_training};
use crate::together::{assert_same_weights, has_mpi};
use crate::training::Ground;

fn script(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("lsf").join(name)).unwrap()
}

fn scene(folder: &Path) {
    let pixels: Vec<u8> = (0..900 * 500)
        .map(|k| {
            let (row, col) = ((k / 500) % 90_usize, (k % 500) % 110_usize);
            if row.abs_diff(45).pow(2) + col.abs_diff(55).pow(2) < 100 { 30 } else { 100 + (k % 23) as u8 }
        })
        .collect();
    fs::create_dir_all(folder.join("images")).unwrap();
    tiff(&folder.join("images/only.tif"), 500, &pixels);
    fs::write(folder.join("images/scenes.csv"), "file_name,height,width\nonly,900,500\n").unwrap();
}

/// The catalogue of the same scan without a scheduler.
fn alone(folder: &Path, flags: &str) -> Vec<u8> {
    let (list, out) = (folder.join("images/scenes.csv"), folder.join("alone"));
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    let fixed = ["scan", "--scenes", list, "--out", out];
    succeed(&fixed.into_iter().chain(flags.split(' ')).collect::<Vec<_>>());
    succeed(&["merge", out]);
    bytes(folder.join("alone/catalogue.csv"))
}

#[test]
fn every_directive_is_known_and_a_warning_comes_before_the_end() {
    for name in ["scan.sh", "merge.sh", "train.sh", "train_nodes.sh"] {
        let job = Job::of(&script(name), &[]);
        assert!(job.output.is_some() && job.run_minutes.is_some() && !job.name.is_empty(), "{name}: {job:?}");
        if name != "merge.sh" {
            assert!(job.rerunnable && job.requeue == [75], "{name}: {job:?}");
            assert!(job.warn_minutes.unwrap() < job.run_minutes.unwrap(), "{name}: {job:?}");
        }
    }
    let wrong = std::panic::catch_unwind(|| Job::of("#BSUB -Z 3", &[]));
    assert!(wrong.is_err(), "a directive that LSF does not know");
}

#[test]
fn an_lsf_array_and_the_merge_that_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, lsf) = (folder.path(), Lsf::new(folder.path()));
    scene(folder);
    let wanted = alone(folder, "--settings threshold");
    let env = [("SCENES", "images/scenes.csv"), ("OUT", "found"), ("FLAGS", "--settings threshold")];
    let merge = words("-w 'done(\"marscan\")'");
    assert!(lsf.submit(&merge, &script("merge.sh"), &env).is_none(), "nothing is done yet");
    let codes = lsf.submit(&words("-J marscan[1-4]%2"), &script("scan.sh"), &env).unwrap();
    assert!(codes.len() == 4 && codes.values().all(|runs| *runs == [0]), "{codes:?}: {}", lsf.log(1));
    assert!(
        lsf.log(3).contains("[3]: shard 2 of 4") && lsf.log(3).contains("with 8 threads"),
        "{}",
        lsf.log(3)
    );
    let merged = lsf.submit(&merge, &script("merge.sh"), &env).unwrap();
    assert_eq!(merged[&0], [0]);
    assert_eq!(bytes(folder.join("found/catalogue.csv")), wanted);
}

#[test]
fn a_sparse_lsf_array_is_refused_or_meant_and_what_lsf_hides_the_merge_names() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, lsf) = (folder.path(), Lsf::new(folder.path()));
    scene(folder);
    let env = |out, flags| [("SCENES", "images/scenes.csv"), ("OUT", out), ("FLAGS", flags)];
    let scan = |indices: &str, out, flags| {
        lsf.submit(&words(&format!("-J marscan[{indices}]")), &script("scan.sh"), &env(out, flags)).unwrap()
    };
    let refused = scan("1,3,7", "short", "--settings threshold --shards 8");
    assert!(refused.values().all(|runs| *runs == [2]), "{refused:?}");
    assert!(lsf.log(7).contains("would leave out 8 (counted from 1)"), "{}", lsf.log(7));
    let meant = "--settings threshold --shards 8 --array-index";
    assert!(scan("1,3,7", "meant", meant).values().all(|runs| *runs == [0]), "{}", lsf.log(1));
    assert!(scan("2,4-6,8", "meant", meant).values().all(|runs| *runs == [0]));
    succeed(&["merge", folder.join("meant").to_str().unwrap()]);
    // [1,3,8] looks like [1-8] to its tasks.
    assert!(scan("1,3,8", "hidden", "--settings threshold").values().all(|runs| *runs == [0]));
    let merged = marscan(&["merge", folder.join("hidden").to_str().unwrap()]);
    let why = String::from_utf8_lossy(&merged.stderr).into_owned();
    assert!(merged.status.code() == Some(1) && why.contains("1, 3-6"), "{why}");
}

#[test]
fn a_task_that_lsf_warns_goes_on_when_it_is_requeued() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, lsf) = (folder.path(), Lsf::new(folder.path()));
    scene(folder);
    // Nine bands a task: there is a middle to be told in.
    let flags = "--settings unet1 --device cpu --window 100 --band-rows 52";
    let wanted = alone(folder, flags);
    let env = [("SCENES", "images/scenes.csv"), ("OUT", "warned"), ("FLAGS", flags)];
    let told = told_in_the_middle("warned", folder.join("warned/shards"));
    let codes = lsf.submit(&words("-J marscan[1-2] -n 1 -W 12 -wt 11"), &script("scan.sh"), &env).unwrap();
    told.join().unwrap();
    let stopped = codes.values().flatten().filter(|code| **code == 75).count();
    assert!(codes.values().all(|runs| runs[runs.len() - 1] == 0), "{codes:?}: {}", lsf.log(1));
    assert!(stopped > 0, "none was stopped: {codes:?}");
    succeed(&["merge", folder.join("warned").to_str().unwrap()]);
    assert_eq!(bytes(folder.join("warned/catalogue.csv")), wanted);
}

#[test]
fn a_training_that_lsf_warns_goes_on_when_it_is_requeued() {
    let ground = Ground::new();
    let [data, settings] = ground.prepare();
    let flags = format!("--settings {settings} --devices cpu --threads 1");
    let lsf = Lsf::new(&ground.path(""));
    let train = |name, out, ranks, options: &str| {
        let env = [("DATA", &*data), ("OUT", out), ("FLAGS", &flags)];
        let told = told_while_training(out, ranks, ground.path(out).join("checkpoint.safetensors"));
        let codes = lsf.submit(&words(options), &script(name), &env).unwrap();
        told.join().unwrap();
        let runs = &codes[&0];
        // Open MPI's mpirun ends with 1, not 75, when it is sent TERM.
        assert!(runs[0] == 75 && runs[runs.len() - 1] == 0, "{runs:?}: {}", lsf.logs(".log"));
        assert_same_weights(&ground.path(out), &ground.path("whole"), ranks);
    };
    train("train.sh", "lsf-trained", 1, "-n 1 -W 60 -wt 56");
    if has_mpi() {
        train("train_nodes.sh", "lsf-spread", 2, "-n 2 -R span[ptile=1] -W 60 -wt 56");
    }
}

#[test]
fn an_lsf_night_scans_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scene(folder);
    let wanted = alone(folder, "--settings threshold");
    // `bsub` is this test program, in the part that the next test names.
    let (bin, this) = (folder.join("bin"), std::env::current_exe().unwrap());
    fs::create_dir(&bin).unwrap();
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$PWD/bin/options\"\nexec {} --exact lsf::bsub --ignored --nocapture\n",
        this.display()
    );
    fs::write(bin.join("bsub"), text).unwrap();
    fs::set_permissions(bin.join("bsub"), fs::Permissions::from_mode(0o755)).unwrap();
    let night = || {
        let nightly = Path::new(env!("CARGO_MANIFEST_DIR")).join("lsf/nightly.sh");
        let program = Path::new(env!("CARGO_BIN_EXE_marscan")).parent().unwrap();
        let path = format!("{}:{}:{}", bin.display(), program.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(nightly);
        command.args(["images", "nights", "--settings", "threshold"]).env("PATH", path).current_dir(folder);
        let output = command.output().unwrap();
        let said = [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part).into_owned());
        (output.status.code(), said.concat())
    };
    // No scene, and named: the others are scanned all the same.
    fs::write(folder.join("images/torn.tif"), "II*").unwrap();
    let (code, first) = night();
    assert!(code == Some(0) && first.contains("1 scenes listed") && first.contains("torn.tif"), "{first}");
    let date = fs::read_dir(folder.join("nights")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(bytes(date.join("catalogue.csv")), wanted);
    fs::remove_file(folder.join("images/torn.tif")).unwrap();
    let (code, again) = night();
    assert!(
        code == Some(4) && again.contains("no scene is new") && !again.contains("is submitted"),
        "{again}"
    );
}

#[test]
#[ignore = "run by the test above, as `bsub`"]
fn bsub() {
    let folder = std::env::current_dir().unwrap();
    let options = fs::read_to_string(folder.join("bin/options")).unwrap();
    let options: Vec<String> = options.lines().map(str::to_owned).collect();
    let mut script = String::new();
    std::io::stdin().read_to_string(&mut script).unwrap();
    let codes = Lsf::new(&folder).submit(&options, &script, &[]);
    println!("Job is submitted to queue <normal>: {codes:?}");
}
