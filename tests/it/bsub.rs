//! LSF's `bsub` as the tests of `lsf/` have it: LSF cannot be had here. Directives are parsed, each that is not known
//! is an error, and obeyed; a job gets LSF's variables and nothing else. A minute of its clock is a second.
//!
//! The stand-in runs a job when it is submitted, so that a job whose condition is not met then never runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(1);
/// Slots of each of the two virtual hosts.
const SLOTS: usize = 16;

/// What the options of `bsub` ask for.
#[derive(Debug, Default)]
pub struct Job {
    pub name: String,
    indices: Vec<usize>,
    step: usize,
    at_once: usize,
    slots: usize,
    per_host: Option<usize>,
    pub run_minutes: Option<u64>,
    warn_signal: Option<String>,
    pub warn_minutes: Option<u64>,
    pub rerunnable: bool,
    pub requeue: Vec<i32>,
    pub output: Option<String>,
    gpus: usize,
    /// `done` or `ended`, and a job's name.
    after: Option<(String, String)>,
}

/// Words as a shell splits them, quotes taken off.
pub fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is not closed: {line}");
    all.extend(word);
    all
}

/// `[hour:]minute`.
fn minutes(text: &str) -> u64 {
    let parts: Vec<u64> = text.split(':').map(|part| part.parse().unwrap()).collect();
    match parts[..] {
        [minutes] => minutes,
        [hours, minutes] => 60 * hours + minutes,
        _ => panic!("{text} is no [hour:]minute"),
    }
}

impl Job {
    /// The directives of a script, then the command line, which goes before them.
    pub fn of(script: &str, command_line: &[String]) -> Self {
        let mut job = Self { slots: 1, step: 1, at_once: usize::MAX, ..Self::default() };
        let directives = script.lines().filter_map(|line| line.strip_prefix("#BSUB"));
        for line in directives {
            job.take(&words(line));
        }
        job.take(command_line);
        assert!(job.warn_signal.is_some() == job.warn_minutes.is_some(), "-wa goes with -wt: {job:?}");
        job
    }

    fn take(&mut self, options: &[String]) {
        let mut options = options.iter();
        while let Some(option) = options.next() {
            if option == "-r" {
                self.rerunnable = true;
                continue;
            }
            let value = options.next().unwrap_or_else(|| panic!("bsub {option} needs a value")).as_str();
            match option.as_str() {
                "-J" => self.take_name(value),
                "-n" => self.slots = value.parse().unwrap(),
                "-R" if value == "span[hosts=1]" => self.per_host = Some(self.slots),
                "-R" => {
                    let count = value.strip_prefix("span[ptile=").and_then(|rest| rest.strip_suffix(']'));
                    self.per_host = Some(count.unwrap_or_else(|| panic!("bsub -R {value}")).parse().unwrap());
                }
                "-W" => self.run_minutes = Some(minutes(value)),
                "-wa" => self.warn_signal = Some(value.to_owned()),
                "-wt" => self.warn_minutes = Some(minutes(value)),
                "-Q" => self.requeue = value.split(' ').map(|code| code.parse().unwrap()).collect(),
                "-o" => self.output = Some(value.to_owned()),
                "-gpu" => self.gpus = value.strip_prefix("num=").unwrap().parse().unwrap(),
                "-w" => {
                    let (kind, name) = value.strip_suffix(')').and_then(|rest| rest.split_once('(')).unwrap();
                    assert!(["done", "ended"].contains(&kind), "bsub -w {value}");
                    self.after = Some((kind.to_owned(), name.trim_matches('"').to_owned()));
                }
                _ => panic!("bsub does not know {option} {value}"),
            }
        }
    }

    /// `name`, or `name[1-64:2,70]%4`.
    fn take_name(&mut self, text: &str) {
        self.indices.clear();
        let Some((name, list)) = text.split_once('[') else {
            text.clone_into(&mut self.name);
            return;
        };
        name.clone_into(&mut self.name);
        let (list, limit) = list.split_once(']').unwrap();
        self.at_once = limit.strip_prefix('%').map_or(usize::MAX, |limit| limit.parse().unwrap());
        for part in list.split(',') {
            let (range, step) = part.split_once(':').unwrap_or((part, "1"));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            self.step = step.parse().unwrap();
            let [first, last] = [first, last].map(|index| index.parse::<usize>().unwrap());
            self.indices.extend((first..=last).step_by(self.step));
        }
        assert!(self.indices.iter().all(|index| *index > 0), "LSF counts from 1: {text}");
    }
}

/// The queue: a folder with a line `NAME EXIT_CODE` for each task that ended, and the scripts it spooled.
pub struct Lsf {
    folder: PathBuf,
}

/// A task that runs.
struct Running {
    index: usize,
    process: Child,
    began: Instant,
    warned: bool,
}

impl Lsf {
    pub fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("lsf")).unwrap();
        Self { folder: folder.to_owned() }
    }

    fn ended(&self) -> Vec<(String, i32)> {
        let text = fs::read_to_string(self.folder.join("lsf/ended")).unwrap_or_default();
        text.lines()
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(n, c)| (n.into(), c.parse().unwrap()))
            .collect()
    }

    /// Whether the job that is waited for ended as it should.
    fn may_run(&self, job: &Job) -> bool {
        let Some((kind, name)) = &job.after else { return true };
        let codes: Vec<i32> =
            self.ended().into_iter().filter(|task| task.0 == *name).map(|task| task.1).collect();
        !codes.is_empty() && (kind == "ended" || codes.iter().all(|code| *code == 0))
    }

    /// `bsub [options] < script`; the exit codes of all runs of its tasks, or `None` where it still waits.
    pub fn submit(
        &self,
        options: &[String],
        script: &str,
        env: &[(&str, &str)],
    ) -> Option<BTreeMap<usize, Vec<i32>>> {
        let job = Job::of(script, options);
        if !self.may_run(&job) {
            return None;
        }
        let id = 100 + fs::read_dir(self.folder.join("lsf")).unwrap().count();
        let spooled = self.folder.join(format!("lsf/{id}.script"));
        fs::write(&spooled, script).unwrap();
        fs::set_permissions(&spooled, fs::Permissions::from_mode(0o755)).unwrap();
        let mut waiting = if job.indices.is_empty() { vec![0] } else { job.indices.clone() };
        waiting.reverse();
        let at_once = job.at_once.min(2 * SLOTS / job.slots).max(1);
        let (mut running, mut codes): (Vec<Running>, BTreeMap<usize, Vec<i32>>) =
            (Vec::new(), BTreeMap::new());
        while !running.is_empty() || !waiting.is_empty() {
            while running.len() < at_once
                && let Some(index) = waiting.pop()
            {
                running.push(self.start(&job, id, index, &spooled, env));
            }
            std::thread::sleep(Duration::from_millis(20));
            running.retain_mut(|task| {
                let Some(code) = watch(&job, task) else { return true };
                let runs = codes.entry(task.index).or_default();
                runs.push(code);
                assert!(runs.len() < 100, "{} is requeued for ever", job.name);
                if job.requeue.contains(&code) {
                    waiting.insert(0, task.index);
                }
                false
            });
        }
        let mut ended = fs::read_to_string(self.folder.join("lsf/ended")).unwrap_or_default();
        ended.extend(codes.values().map(|runs| format!("{} {}\n", job.name, runs[runs.len() - 1])));
        fs::write(self.folder.join("lsf/ended"), ended).unwrap();
        Some(codes)
    }

    /// Starts a task with LSF's variables.
    fn start(&self, job: &Job, id: usize, index: usize, script: &Path, env: &[(&str, &str)]) -> Running {
        let per_host = job.per_host.unwrap_or(job.slots).min(job.slots);
        let hosts: Vec<String> =
            (0..job.slots.div_ceil(per_host)).map(|k| format!("host{}", k + 1)).collect();
        let list: Vec<&str> = hosts.iter().flat_map(|host| vec![host.as_str(); per_host]).collect();
        let counts: Vec<String> = hosts.iter().map(|host| format!("{host} {per_host}")).collect();
        let batch_id = if index == 0 { id.to_string() } else { format!("{id}[{index}]") };
        let mut command = Command::new(script);
        for name in ["SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"] {
            command.env_remove(name);
        }
        let bin = Path::new(env!("CARGO_BIN_EXE_marscan")).parent().unwrap().display();
        let of_lsf = [
            ("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap())),
            ("LSB_JOBID", id.to_string()),
            ("LSB_JOBINDEX", index.to_string()),
            ("LSB_JOBINDEX_END", job.indices.iter().max().unwrap_or(&0).to_string()),
            ("LSB_JOBINDEX_STEP", if index == 0 { 0 } else { job.step }.to_string()),
            ("LSB_BATCH_JID", batch_id),
            ("LSB_JOBNAME", job.name.clone()),
            ("LSB_JOBFILENAME", script.display().to_string()),
            ("LSB_QUEUE", "normal".into()),
            ("LSB_DJOB_NUMPROC", job.slots.to_string()),
            ("LSB_HOSTS", list.join(" ")),
            ("LSB_MCPU_HOSTS", counts.join(" ")),
            ("LS_SUBCWD", self.folder.display().to_string()),
        ];
        command.envs(of_lsf).envs(env.iter().copied());
        // What LSF tells an Open MPI that is built with it, for one that is not.
        let slots = self.folder.join("lsf/slots");
        fs::write(&slots, format!("localhost slots={}\n", job.slots)).unwrap();
        command.env("OMPI_MCA_orte_default_hostfile", slots).env("OMPI_MCA_rmaps_base_oversubscribe", "1");
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
            command.env(name, "1");
        }
        if job.gpus > 0 {
            let gpus: Vec<String> = (0..job.gpus).map(|gpu| gpu.to_string()).collect();
            command.env("CUDA_VISIBLE_DEVICES", gpus.join(","));
        }
        let name = job.output.as_deref().unwrap_or("%J.log");
        let name = name.replace("%J", &id.to_string()).replace("%I", &index.to_string());
        let log = File::options().create(true).append(true).open(self.folder.join(name)).unwrap();
        command.current_dir(&self.folder).process_group(0).stdout(log.try_clone().unwrap()).stderr(log);
        Running { index, process: command.spawn().unwrap(), began: Instant::now(), warned: false }
    }

    /// The log of one task of an array.
    pub fn log(&self, index: usize) -> String {
        self.logs(&format!("_{index}.log"))
    }

    /// The logs whose names end so.
    pub fn logs(&self, end: &str) -> String {
        let mut all = String::new();
        for entry in fs::read_dir(&self.folder).unwrap().flatten() {
            if entry.file_name().to_string_lossy().ends_with(end) {
                all += &fs::read_to_string(entry.path()).unwrap();
            }
        }
        all
    }
}

/// Warns and ends a task that is over its time; its exit code once it ended.
fn watch(job: &Job, task: &mut Running) -> Option<i32> {
    if let Some(status) = task.process.try_wait().unwrap() {
        return Some(status.code().unwrap_or(128));
    }
    let (limit, past) = (job.run_minutes?, task.began.elapsed());
    let group = format!("-{}", task.process.id());
    let kill =
        |signal: &str| assert!(Command::new("kill").args(["-s", signal, "--", &group]).status().is_ok());
    if let (Some(signal), Some(before), false) = (&job.warn_signal, job.warn_minutes, task.warned)
        && past >= MINUTE * (limit - before) as u32
    {
        task.warned = true;
        kill(signal);
    }
    if past >= MINUTE * limit as u32 {
        kill("KILL");
    }
    None
}
