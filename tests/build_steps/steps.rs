//! `[[step]]`s through the engine: chains, failures, and culprits found by building again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use labimg::base::report::Silent;
use labimg::build::BuildError;
use labimg::build::run_step::{OUT, RunStep};
use labimg::build::sandbox::{self, Exit, Spec, Stop};
use labimg::build::step::engine::{Done, EngineOptions, Rebuild, realise};
use labimg::build::step::plan::Plan;
use labimg::build::step::{Action, Cost, Input, tree_tar};
use labimg::build::toolchain::Toolchain;
use labimg::store::{Access, Store};

use crate::support::{helper, tree};

struct Bench {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    toolchain: Arc<Toolchain>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store"), Access::Shared).unwrap());
        let toolchain = Toolchain::new(&[], |root, _| {
            let copied = std::process::Command::new("cp").arg("-a").arg(tree().path().join(".")).arg(root).status();
            assert!(copied.unwrap().success());
            Ok(())
        });
        Self { dir, store, toolchain: Arc::new(toolchain) }
    }

    fn step(&self, name: &str, script: &str) -> RunStep {
        RunStep {
            name: format!("step {name}"),
            script: script.to_owned(),
            env: BTreeMap::new(),
            inputs: BTreeMap::new(),
            toolchain: self.toolchain.clone(),
            cost: Cost { cores: 2, memory: 64 },
            helper: helper(),
            exec: "labimg toolchain exec profiles/x.toml".to_owned(),
        }
    }

    fn build(&self, steps: Vec<RunStep>, rebuild: Rebuild) -> Result<BTreeMap<String, Done>, BuildError> {
        self.build_in(steps, rebuild, None)
    }

    fn build_in(
        &self,
        steps: Vec<RunStep>,
        rebuild: Rebuild,
        again_root: Option<&Path>,
    ) -> Result<BTreeMap<String, Done>, BuildError> {
        let plan = Plan::new(steps.into_iter().map(|s| Box::new(s) as Box<dyn Action>).collect())?;
        let options = EngineOptions {
            store: &self.store,
            lab: "lab",
            epoch: 1_700_000_000,
            cores: 2,
            memory_mib: 1024,
            scratch_root: &self.dir.path().join("scratch"),
            again_root,
            keep_failed: true,
            rebuild,
            reporter: &Silent,
        };
        realise(&plan, &options)
    }

    /// The files of an output, with what is in them.
    fn files(&self, done: &Done) -> BTreeMap<String, String> {
        let to = tempfile::tempdir_in(self.dir.path()).unwrap();
        tree_tar::unpack(&self.store, &done.outputs[OUT], to.path(), 7).unwrap();
        let text =
            |e: std::fs::DirEntry| (e.file_name().into_string().unwrap(), std::fs::read_to_string(e.path()).unwrap());
        std::fs::read_dir(to.path()).unwrap().map(|e| text(e.unwrap())).collect()
    }
}

#[test]
fn steps_hand_their_outputs_on() {
    let bench = Bench::new();
    let blob = bench.store.put(b"from the profile's folder\n").unwrap();
    let mut first =
        bench.step("first", "cat /in/text.txt >/out/text; stat -c %Y,%a /in/text.txt >>/out/text; chmod 500 /out");
    first.inputs.insert("text.txt".to_owned(), Input::Blob { digest: blob, size: 26 });
    let mut second = bench.step("second", "stat -c %Y,%a /in/first /in/first/text >/out/seen; echo $WORD >>/out/seen; cat /in/first/text >/out/copy\nmkdir /tmp/x; chmod 0 /tmp/x");
    second.inputs.insert("first".to_owned(), Input::Step { step: "step first".to_owned(), output: OUT.to_owned() });
    second.env.insert("WORD".to_owned(), "word".to_owned());
    let done = bench.build(vec![second, first], Rebuild::AndCompare).unwrap();
    let want = "from the profile's folder\n1700000000,644\n".to_owned();
    let seen = "1700000000,755\n1700000000,644\nword\n".to_owned();
    let files = BTreeMap::from([("copy".to_owned(), want), ("seen".to_owned(), seen)]);
    assert_eq!(bench.files(&done["step second"]), files);
    let left = |dir: &str| std::fs::read_dir(bench.dir.path().join(dir)).unwrap().count();
    assert_eq!((left("scratch"), left("scratch/built-again")), (1, 0), "nothing is left, whatever modes steps set");
}

#[test]
fn culprits_are_found_by_building_again() {
    let bench = Bench::new();
    let found = |script: &str| {
        let error =
            bench.build(vec![bench.step("bad", script), bench.step("good", "echo >/out/x")], Rebuild::AndCompare);
        error.unwrap_err().to_string()
    };
    let clock = found("mkdir /out/etc; date +%s%N >/out/etc/stamp");
    assert!(
        clock.starts_with("built again, step bad is different:\n  output `out`: etc/stamp: content differs"),
        "{clock}"
    );
    let random = found("head -c 16 /dev/urandom >/out/seed");
    assert!(random.contains("step bad") && random.contains("seed: content differs at byte 0"), "{random}");
    let parallel = found("i=0; while [ $i -lt $LABIMG_CORES ]; do echo x >/out/part-$i & i=$((i+1)); done; wait");
    assert!(parallel.contains("output `out`: part-1: only in the first"), "{parallel}");
}

#[test]
fn the_order_of_directories_is_found_on_another_file_system() {
    let kind = |dir: &Path| rustix::fs::statfs(dir).map(|s| s.f_type).ok();
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: there is no /dev/shm to write to");
        return;
    };
    let bench = Bench::new();
    if kind(memory.path()) == kind(bench.dir.path()) {
        println!("skipped: temporary files lie on the same kind of file system as /dev/shm");
        return;
    }
    let script =
        "mkdir /tmp/d; i=0; while [ $i -lt 64 ]; do echo >/tmp/d/$i; i=$((i+1)); done; ls -U /tmp/d >/out/list";
    let error =
        bench.build_in(vec![bench.step("order", script)], Rebuild::AndCompare, Some(memory.path())).unwrap_err();
    assert!(error.to_string().contains("step order") && error.to_string().contains("list: content differs"), "{error}");
    let sorted = script.replace("ls -U", "ls");
    bench.build_in(vec![bench.step("order", &sorted)], Rebuild::AndCompare, Some(memory.path())).unwrap();
}

#[test]
fn a_failure_tells_what_was_run_and_can_be_looked_into() {
    let bench = Bench::new();
    let script = "echo half >/out/half\necho working\necho this is wrong >&2\nfalse\necho not reached";
    let error = bench.build(vec![bench.step("bad", script)], Rebuild::No).unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "step bad failed: `echo half >/out/half …`: exit code 1\n  | working\n  | this is wrong");
    let hint = error.hint().unwrap();
    let BuildError::StepFailed { scratch: Some(scratch), .. } = error else { panic!() };
    let line = format!("labimg toolchain exec profiles/x.toml --scratch {} -- /bin/sh", scratch.display());
    assert!(hint.ends_with(&line), "{hint}");
    let spec =
        Spec { argv: ["/bin/sh", "-c", "cat /out/half"].map(str::to_owned).into(), ..Spec::load(&scratch).unwrap() };
    let ended = sandbox::run(&helper(), &spec, Stop::default()).unwrap();
    assert_eq!((ended.exit, ended.output.as_str()), (Exit::Code(0), "half\n"));
    let device = bench.build(vec![bench.step("pipe", "mkfifo /out/p")], Rebuild::No).unwrap_err().to_string();
    assert!(device.contains("/out/p: only files, directories and symbolic links"), "{device}");
    let long = bench.build(vec![bench.step("long", &"#".repeat(200_000))], Rebuild::No).unwrap_err();
    assert!(long.hint().unwrap().contains("path:FILE"), "{long}");
}

#[test]
fn a_script_of_the_largest_size_runs() {
    let bench = Bench::new();
    let script = format!("echo x >/out/x\n{}", "#".repeat(128 * 1024 - 1 - 15));
    bench.build(vec![bench.step("large", &script)], Rebuild::No).unwrap();
}
