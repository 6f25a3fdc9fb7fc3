//! The scripts of `slurm/` on a real Slurm of two virtual nodes, which `tests/slurm/up.sh` brings up.
//!
//! One test, so that one Slurm serves all scenes of the play: what waits for a clock of Slurm's is submitted
//! first and looked at last. Needs root and the packages slurm-wlm and munge; says so where it did not run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use crate::files::{bytes, succeed, tiff};
use crate::processes::{processes, signal, text, told_in_the_middle, told_while_training, until};
use crate::together::{assert_same_weights, has_mpi};
use crate::training::Ground;

/// A Slurm of its own, and the folder that its jobs work in; gone with all its jobs when it is dropped.
struct Slurm {
    folder: tempfile::TempDir,
}

impl Drop for Slurm {
    fn drop(&mut self) {
        drop(Command::new(source("tests/slurm/down.sh")).arg(self.folder.path().join("slurm")).status());
    }
}

/// What Slurm says of a task's last run.
struct Task {
    index: String,
    state: String,
    exit_code: String,
    started: String,
    ended: String,
}

fn source(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(part)
}

impl Slurm {
    /// `None`, and says so, where it cannot be.
    fn up() -> Option<Self> {
        let root = Command::new("id").arg("-u").output().is_ok_and(|id| text(&id.stdout).trim() == "0");
        let there = ["/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/sbin/munged"];
        if !root || !there.iter().all(|program| Path::new(program).exists()) {
            println!("not run: a Slurm of its own needs root and apt-get install slurm-wlm munge");
            return None;
        }
        let slurm = Self { folder: tempfile::tempdir().unwrap() };
        // Three ports that are free now.
        let doors = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = doors.each_ref().map(|door| door.local_addr().unwrap().port().to_string());
        drop(doors);
        let mut command = Command::new(source("tests/slurm/up.sh"));
        // To a file: the daemons would keep a pipe open.
        let log = std::fs::File::create(slurm.path("up.log")).unwrap();
        let status =
            command.arg(slurm.path("slurm")).args(ports).stdout(log.try_clone().unwrap()).stderr(log);
        assert!(status.status().unwrap().success(), "{}", text(&bytes(slurm.path("up.log"))));
        Some(slurm)
    }

    fn path(&self, part: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(part)
    }

    /// A command in the jobs' folder that talks to this Slurm, with the program on its path.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let bin = Path::new(env!("CARGO_BIN_EXE_marscan")).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("SLURM_CONF", self.path("slurm/slurm.conf"));
        // The ranks of both nodes share this machine's memory, where Open MPI would take them for those of one.
        command.env("OMPI_MCA_btl", "self,tcp").env("OMPI_MCA_btl_tcp_if_include", "lo");
        command.env("OMPI_MCA_mpi_yield_when_idle", "1");
        command.current_dir(self.folder.path());
        command
    }

    fn ask(&self, program: &str, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(program).args(args).output().unwrap();
        assert!(status.success(), "{program} {args:?}: {}{}", text(&stdout), text(&stderr));
        text(&stdout)
    }

    /// Submits a script of `slurm/` and gives the job's number.
    fn sbatch(&self, options: &[&str], script: &str, args: &[&str]) -> String {
        let script = source("slurm").join(script);
        let args = [&["--parsable"], options, &[script.to_str().unwrap()], args].concat();
        self.ask("sbatch", &args).trim().to_owned()
    }

    /// Waits until nothing of `job` is queued or running, and gives its tasks in order of their index.
    fn wait(&self, job: &str) -> Vec<Task> {
        let queued = || self.ask("squeue", &["--noheader", "--jobs", job, "--states=all", "--format=%t"]);
        // `CD CG F PD R ...`: ended well, or not.
        until(120, &format!("job {job}"), || {
            queued().split_whitespace().all(|state| matches!(state, "CD" | "F" | "CA" | "TO" | "NF"))
        });
        let mut tasks: Vec<Task> =
            self.ask("scontrol", &["--oneliner", "show", "job", job]).lines().map(Task::parse).collect();
        tasks.sort_by(|a, b| a.index.cmp(&b.index));
        tasks
    }

    /// The log of one task of an array.
    fn log(&self, job: &str, index: &str) -> String {
        text(&bytes(self.path(format!("marscan-{job}_{index}.log"))))
    }
}

impl Task {
    fn parse(line: &str) -> Self {
        let fields: BTreeMap<&str, &str> =
            line.split_whitespace().filter_map(|field| field.split_once('=')).collect();
        let field = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
        Self {
            index: field("ArrayTaskId"),
            state: field("JobState"),
            exit_code: field("ExitCode"),
            started: field("StartTime"),
            ended: field("EndTime"),
        }
    }
}

/// Draws two scenes with dark discs over every kind of edge.
fn draw(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let mut list = String::from("file_name,height,width\n");
    for (name, rows, cols) in [("first", 1800, 700), ("second", 600, 500)] {
        let disc = |k: usize| {
            let (row, col) = ((k / cols) % 150, (k % cols) % 170);
            row.abs_diff(75).pow(2) + col.abs_diff(85).pow(2) < 144
        };
        let pixels: Vec<u8> =
            (0..rows * cols).map(|k| if disc(k) { 30 } else { 100 + (k % 23) as u8 }).collect();
        tiff(&folder.join(format!("{name}.tif")), cols, &pixels);
        list.push_str(&[name, &rows.to_string(), &cols.to_string()].join(","));
        list.push('\n');
    }
    std::fs::write(folder.join("scenes.csv"), list).unwrap();
}

/// The catalogue of the same scan without a scheduler.
fn alone(slurm: &Slurm, out: &str, flags: &[&str]) -> Vec<u8> {
    let (list, out) = (slurm.path("images/scenes.csv"), slurm.path(out));
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    succeed(&[&["scan", "--scenes", list, "--out", out][..], flags].concat());
    succeed(&["merge", out]);
    bytes(Path::new(out).join("catalogue.csv"))
}

/// A variable of the scheduler in the `shard.json` of a run.
fn told(slurm: &Slurm, shard: &str, name: &str) -> Option<String> {
    let path = slurm.path(shard).join("shard.json");
    let manifest: serde_json::Value = serde_json::from_slice(&bytes(path)).unwrap();
    let pairs: Vec<(String, String)> = serde_json::from_value(manifest["scheduler"].clone()).unwrap();
    pairs.into_iter().find(|pair| pair.0 == name).map(|pair| pair.1)
}

const SCAN: [&str; 4] = ["images/scenes.csv", "", "--settings", "threshold"];

fn scan_into(out: &str) -> [&str; 4] {
    [SCAN[0], out, SCAN[2], SCAN[3]]
}

#[test]
fn the_scripts_run_on_a_real_slurm() {
    let Some(slurm) = Slurm::up() else { return };
    let began = Instant::now();
    let after = |what: &str| println!("{:5.1} s: {what}", began.elapsed().as_secs_f64());
    draw(&slurm.path("images"));
    let wanted = alone(&slurm, "alone", &["--settings", "threshold"]);
    assert!(text(&wanted).lines().count() > 40, "{}", text(&wanted));
    let ground = Ground::new();
    let late = submit_what_is_stopped(&slurm);
    let trainings = submit_trainings(&slurm, &ground);
    after("submitted what is stopped");
    an_array_and_the_merge_that_waits_for_it(&slurm, &wanted);
    after("array and merge");
    no_more_tasks_at_once_than_the_limit(&slurm);
    after("limit");
    a_sparse_array_is_refused_by_name_or_meant(&slurm, &wanted);
    after("sparse arrays");
    processes_of_one_step_deal_the_shards_out(&slurm, &wanted);
    after("processes of one step");
    a_night_scans_what_is_new(&slurm, &wanted);
    after("nights");
    what_was_stopped_goes_on_to_the_same_catalogue(&slurm, late);
    after("requeued, and stopped by its time limit");
    trainings_go_on_to_the_same_weights(&slurm, &ground, trainings);
    after("trainings stopped by their time limit");
}

fn an_array_and_the_merge_that_waits_for_it(slurm: &Slurm, wanted: &[u8]) {
    let array = slurm.sbatch(&["--array=0-3"], "scan.sh", &scan_into("found"));
    let merge = slurm.sbatch(&[&format!("--dependency=afterok:{array}")], "merge.sh", &["found"]);
    let (merged, tasks) = (slurm.wait(&merge), slurm.wait(&array));
    assert!(
        tasks.len() == 4 && tasks.iter().all(|task| task.exit_code == "0:0"),
        "{}",
        slurm.log(&array, "0")
    );
    assert_eq!(merged[0].state, "COMPLETED");
    assert!(tasks.iter().all(|task| task.ended <= merged[0].started), "the merge did not wait");
    assert_eq!(bytes(slurm.path("found/catalogue.csv")), wanted);
    let mut nodes = BTreeSet::new();
    for index in 0..4 {
        let shard = format!("found/shards/shard-{index:05}-of-00004");
        let id = format!("{array}_{index}");
        assert_eq!(told(slurm, &shard, "task").as_ref(), Some(&id));
        assert!(slurm.log(&array, &index.to_string()).contains(&format!("task {id}: shard {index} of 4")));
        nodes.extend(told(slurm, &shard, "SLURMD_NODENAME"));
    }
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["n1", "n2"], "both nodes worked");
}

fn no_more_tasks_at_once_than_the_limit(slurm: &Slurm) {
    let array = slurm.sbatch(&["--array=1-3%1"], "scan.sh", &scan_into("limited"));
    let mut tasks = slurm.wait(&array);
    tasks.sort_by(|a, b| a.started.cmp(&b.started));
    assert!(
        tasks.len() == 3 && tasks.iter().all(|task| task.exit_code == "0:0"),
        "{}",
        slurm.log(&array, "1")
    );
    assert!(tasks.windows(2).all(|pair| pair[0].ended <= pair[1].started), "two at once");
    succeed(&["merge", slurm.path("limited").to_str().unwrap()]);
}

fn a_sparse_array_is_refused_by_name_or_meant(slurm: &Slurm, wanted: &[u8]) {
    let scan = [&scan_into("sparse")[..], &["--shards", "8"]].concat();
    let array = slurm.sbatch(&["--array=1,3,7"], "scan.sh", &scan);
    let merge = slurm.sbatch(&[&format!("--dependency=afterok:{array}")], "merge.sh", &["sparse"]);
    for task in slurm.wait(&array) {
        assert_eq!((task.state.as_str(), task.exit_code.as_str()), ("FAILED", "2:0"));
    }
    let log = slurm.log(&array, "3");
    assert!(log.contains("leave out 0, 2, 4-6 (counted from 0)") && log.contains("--array-index"), "{log}");
    assert_eq!(slurm.wait(&merge)[0].state, "CANCELLED", "a merge that can never run stays in no queue");
    assert!(!slurm.path("sparse").exists());
    let meant = [&scan[..], &["--array-index"]].concat();
    for indices in ["--array=1,3,7", "--array=0,2,4-6"] {
        let array = slurm.sbatch(&[indices], "scan.sh", &meant);
        assert!(slurm.wait(&array).iter().all(|task| task.exit_code == "0:0"));
    }
    succeed(&["merge", slurm.path("sparse").to_str().unwrap()]);
    assert_eq!(bytes(slurm.path("sparse/catalogue.csv")), wanted);
}

fn processes_of_one_step_deal_the_shards_out(slurm: &Slurm, wanted: &[u8]) {
    let scan = [
        &[
            "--ntasks=3",
            "--mem=1G", // All of a node without it, and trainings hold some of each.
            "marscan",
            "scan",
            "--threads",
            "1",
            "--shards",
            "5",
            "--scenes",
            "images/scenes.csv",
        ][..],
        &["--settings", "threshold", "--out", "dealt"],
    ];
    let said = slurm.ask("srun", &scan.concat());
    assert_eq!(said.matches("published in").count(), 5, "each shard once: {said}");
    succeed(&["merge", slurm.path("dealt").to_str().unwrap()]);
    assert_eq!(bytes(slurm.path("dealt/catalogue.csv")), wanted);
}

fn a_night_scans_what_is_new(slurm: &Slurm, wanted: &[u8]) {
    let script = source("slurm/nightly.sh");
    let night = || {
        let mut command = slurm.command(&script);
        command.args(["images", "nights", "--settings", "threshold"]).output().unwrap()
    };
    let first = night();
    let said = text(&first.stdout);
    assert!(first.status.success() && said.contains("2 scenes listed"), "{said}{}", text(&first.stderr));
    let merge = said.split_whitespace().last().unwrap().to_owned();
    assert_eq!(slurm.wait(&merge)[0].exit_code, "0:0");
    let date = std::fs::read_dir(slurm.path("nights")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(bytes(date.join("catalogue.csv")), wanted);
    let again = night();
    let said = text(&again.stdout);
    assert!(
        again.status.code() == Some(4) && said.contains("no scene is new"),
        "{said}{}",
        text(&again.stderr)
    );
    assert!(!said.contains("Submitted"), "{said}");
}

/// The network on one thread: two jobs that are stopped before they end.
struct Late {
    wanted: Vec<u8>,
    /// Gets SIGUSR1 before its time is up, at the next tick of Slurm's clock, which has 30 s between ticks.
    timed: String,
    /// Sees to it that they are at work then.
    told: std::thread::JoinHandle<()>,
    /// Waits for it.
    merge: String,
    /// Requeued by hand.
    requeued: String,
}

/// Small windows and bands: there is a middle for a signal to come in.
const NETWORK: [&str; 8] = ["--settings", "unet1", "--device", "cpu", "--window", "100", "--band-rows", "52"];

fn submit_what_is_stopped(slurm: &Slurm) -> Late {
    let options = ["--cpus-per-task=1", "--array=0-1"];
    let scan = |out| [&["images/scenes.csv", out][..], &NETWORK].concat();
    let timed = slurm.sbatch(
        &[&options[..], &["--time=1", "--signal=B:USR1@60"]].concat(),
        "scan.sh",
        &scan("timed"),
    );
    let told = told_in_the_middle("timed", slurm.path("timed/shards"));
    // `afterok` would never come true: an array keeps the 75 of a task that then ends with 0.
    let merge = slurm.sbatch(&[&format!("--dependency=afterany:{timed}")], "merge.sh", &["timed"]);
    let requeued = slurm.sbatch(&options, "scan.sh", &scan("requeued"));
    for task in processes("requeued", 2) {
        signal(&task, "STOP");
    }
    slurm.ask("scontrol", &["requeue", &requeued]);
    Late { wanted: alone(slurm, "network", &NETWORK), timed, told, merge, requeued }
}

fn what_was_stopped_goes_on_to_the_same_catalogue(slurm: &Slurm, late: Late) {
    late.told.join().unwrap();
    assert!(slurm.wait(&late.requeued).iter().all(|task| task.exit_code == "0:0"));
    let shard = "requeued/shards/shard-00000-of-00002";
    assert_eq!(told(slurm, shard, "SLURM_RESTART_COUNT").as_deref(), Some("1"));
    succeed(&["merge", slurm.path("requeued").to_str().unwrap()]);
    assert_eq!(bytes(slurm.path("requeued/catalogue.csv")), late.wanted);
    let merged = &slurm.wait(&late.merge)[0];
    assert_eq!((merged.state.as_str(), merged.exit_code.as_str()), ("COMPLETED", "0:0"));
    assert_eq!(bytes(slurm.path("timed/catalogue.csv")), late.wanted);
    for index in ["0", "1"] {
        let log = slurm.log(&late.timed, index);
        assert!(
            log.contains("stopped by SIGUSR1") && log.contains("goes on: an earlier task finished"),
            "{log}"
        );
    }
    let ended = text(&bytes(slurm.path("slurm/log/ended.txt")));
    let runs = ended.lines().filter(|line| line.contains(&format!("ArrayJobId={} ", late.timed)));
    let stopped = runs.filter(|line| line.contains(" ExitCode=75:0")).count();
    assert!(stopped >= 2, "both tasks stopped early: {ended}");
}

/// A training that gets SIGTERM before its time is up, at the same tick.
struct Training {
    out: &'static str,
    ranks: usize,
    job: String,
    told: std::thread::JoinHandle<()>,
}

fn submit_trainings(slurm: &Slurm, ground: &Ground) -> Vec<Training> {
    let [data, settings] = ground.prepare();
    let submit = |script, out, ranks, options: &[&str]| {
        let options = [options, &["--cpus-per-task=1", "--time=1"]].concat();
        let args = [data.as_str(), out, "--settings", &settings, "--devices", "cpu", "--threads", "1"];
        let job = slurm.sbatch(&options, script, &args);
        let told = told_while_training(out, ranks, slurm.path(out).join("checkpoint.safetensors"));
        Training { out, ranks, job, told }
    };
    let mut trainings = vec![submit("train.sh", "trained", 1, &["--signal=B:TERM@60"])];
    if has_mpi() {
        let nodes = ["--signal=TERM@60", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1"];
        trainings.push(submit("train_nodes.sh", "spread", 2, &nodes));
    }
    trainings
}

fn trainings_go_on_to_the_same_weights(slurm: &Slurm, ground: &Ground, trainings: Vec<Training>) {
    for Training { out, ranks, job, told } in trainings {
        told.join().unwrap();
        let task = &slurm.wait(&job)[0];
        let log = text(&bytes(slurm.path(format!("marscan-train-{job}.log"))));
        assert_eq!(task.exit_code, "0:0", "{log}");
        assert!(log.contains("stopped by SIGTERM") && log.contains("4 epochs done"), "{log}");
        assert_eq!(log.contains("on 2 ranks"), ranks == 2, "{log}");
        let ended = text(&bytes(slurm.path("slurm/log/ended.txt")));
        let mut runs = ended.lines().filter(|line| line.contains(&format!("JobId={job} ")));
        assert!(runs.any(|line| line.contains(" ExitCode=75:0")), "{ended}");
        assert_same_weights(&slurm.path(out), &ground.path("whole"), ranks);
    }
}
