//! The engine over actions that only count and write small blobs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::base::report::Silent;
use crate::build::step::why::{Why, why};
use crate::store::Access;

type Work = dyn Fn(&Run<'_>) -> Result<String, BuildError> + Send + Sync;

/// What all actions of a test count together.
#[derive(Default)]
struct Counts {
    runs: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

struct Fake {
    name: &'static str,
    params: serde_json::Value,
    inputs: Vec<(&'static str, Input)>,
    cost: Cost,
    work: Arc<Work>,
    counts: Arc<Counts>,
}

impl Action for Fake {
    fn name(&self) -> String {
        self.name.to_owned()
    }
    fn builder(&self) -> &'static str {
        "fake/1"
    }
    fn params(&self) -> serde_json::Value {
        self.params.clone()
    }
    fn inputs(&self) -> BTreeMap<String, Input> {
        self.inputs.iter().map(|(l, i)| ((*l).to_owned(), i.clone())).collect()
    }
    fn cost(&self) -> Cost {
        self.cost
    }
    fn varies(&self, _output: &str) -> bool {
        self.name == "state"
    }
    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        self.counts.runs.lock().unwrap().push(self.name.to_owned());
        let now = self.counts.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.counts.most.fetch_max(now, Ordering::SeqCst);
        let text = (self.work)(run);
        self.counts.running.fetch_sub(1, Ordering::SeqCst);
        let text = text?;
        let digest = run.store.put(text.as_bytes())?;
        let facts = BTreeMap::new();
        Ok(BTreeMap::from([("out".to_owned(), Output { digest, size: text.len() as u64, facts })]))
    }
}

/// A store, and what was run over it.
struct Bench {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    counts: Arc<Counts>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store"), Access::Shared).unwrap());
        Self { dir, store, counts: Arc::default() }
    }

    fn step(
        &self,
        name: &'static str,
        of: &[&'static str],
        work: impl Fn(&Run<'_>) -> Result<String, BuildError> + Send + Sync + 'static,
    ) -> Fake {
        let input = |s: &&'static str| (*s, Input::Step { step: (*s).to_owned(), output: "out".to_owned() });
        Fake {
            name,
            params: json!({ "what": name }),
            inputs: of.iter().map(input).collect(),
            cost: Cost { cores: 1, memory: 10 },
            work: Arc::new(work),
            counts: self.counts.clone(),
        }
    }

    fn blob(&self, text: &str) -> Input {
        Input::Blob { digest: self.store.put(text.as_bytes()).unwrap(), size: text.len() as u64 }
    }

    fn build(&self, steps: Vec<Fake>, rebuild: Rebuild) -> Result<BTreeMap<String, Done>, BuildError> {
        self.build_with(steps, rebuild, 4, 1000)
    }

    fn build_with(
        &self,
        steps: Vec<Fake>,
        rebuild: Rebuild,
        cores: usize,
        memory_mib: u64,
    ) -> Result<BTreeMap<String, Done>, BuildError> {
        let plan = Plan::new(steps.into_iter().map(|s| Box::new(s) as Box<dyn Action>).collect())?;
        let scratch_root = &self.dir.path().join("scratch");
        let (store, reporter) = (&self.store, &Silent);
        let options = EngineOptions {
            store,
            lab: "lab",
            epoch: 7,
            cores,
            memory_mib,
            scratch_root,
            again_root: None,
            keep_failed: true,
            rebuild,
            reporter,
        };
        realise(&plan, &options)
    }

    /// What ran since the last call, sorted.
    fn ran(&self) -> Vec<String> {
        let mut ran = std::mem::take(&mut *self.counts.runs.lock().unwrap());
        ran.sort();
        ran
    }

    fn scratch_left(&self) -> usize {
        let count = |dir: PathBuf| {
            fs_err::read_dir(dir).map_or(0, |d| d.filter(|e| e.as_ref().unwrap().file_name() != "built-again").count())
        };
        count(self.dir.path().join("scratch")) + count(self.dir.path().join("scratch/built-again"))
    }
}

/// The input called `label` as text.
fn text(run: &Run<'_>, label: &str) -> String {
    fs_err::read_to_string(run.store.blob_path(&run.inputs[label].digest)).unwrap()
}

/// source -> compiled (comments left out) -> packed; and another step beside them.
fn chain(bench: &Bench, source: &str) -> Vec<Fake> {
    let mut compile = bench.step("compile", &[], |run| {
        Ok(text(run, "source").lines().filter(|l| !l.starts_with('#')).collect::<String>())
    });
    compile.inputs.push(("source", bench.blob(source)));
    let pack = bench.step("pack", &["compile"], |run| Ok(format!("packed {}", text(run, "compile"))));
    vec![pack, compile, bench.step("beside", &[], |_| Ok("beside".to_owned()))]
}

#[test]
fn only_what_changed_is_built_and_an_equal_output_stops_the_wave() {
    let bench = Bench::new();
    let first = bench.build(chain(&bench, "# one\ncode"), Rebuild::No).unwrap();
    assert_eq!(bench.ran(), ["beside", "compile", "pack"]);
    assert!(first.values().all(|d| d.built));
    let second = bench.build(chain(&bench, "# one\ncode"), Rebuild::No).unwrap();
    assert_eq!(bench.ran(), Vec::<String>::new());
    assert!(second.iter().all(|(name, d)| !d.built && d.outputs == first[name].outputs));
    let third = bench.build(chain(&bench, "# two\ncode"), Rebuild::No).unwrap();
    assert_eq!(bench.ran(), ["compile"], "its output is the same: nothing after it runs");
    assert_eq!(third["pack"], second["pack"]);
    bench.build(chain(&bench, "# two\nother"), Rebuild::No).unwrap();
    assert_eq!(bench.ran(), ["compile", "pack"]);
    assert_eq!(bench.scratch_left(), 0);
}

#[test]
fn steps_run_side_by_side_within_cores_and_memory() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let most = |cores: usize, memory: u64, cost: Cost| {
        let bench = Bench::new();
        let steps = names.map(|n| Fake {
            cost,
            ..bench.step(n, &[], |_| {
                std::thread::sleep(Duration::from_millis(60));
                Ok(String::new())
            })
        });
        bench.build_with(steps.into(), Rebuild::No, cores, memory).unwrap();
        assert_eq!(bench.ran(), names);
        bench.counts.most.load(Ordering::SeqCst)
    };
    assert_eq!(most(1, 1000, Cost { cores: 1, memory: 1 }), 1);
    assert_eq!(most(3, 1000, Cost { cores: 1, memory: 1 }), 3);
    assert_eq!(most(8, 1000, Cost { cores: 1, memory: 500 }), 2);
    assert_eq!(most(4, 1000, Cost { cores: 2, memory: 1 }), 2);
    assert_eq!(most(2, 100, Cost { cores: 9, memory: 9000 }), 1, "more than there is: alone, but it runs");
}

#[test]
fn a_step_gets_no_more_threads_than_there_are() {
    let bench = Bench::new();
    let mut step = bench.step("a", &[], |run| Ok(run.threads.to_string()));
    step.cost.cores = 9;
    let done = bench.build_with(vec![step], Rebuild::No, 2, 10).unwrap();
    assert_eq!(done["a"].outputs["out"].digest, Digest::of(b"2"));
}

#[test]
fn a_failure_keeps_its_scratch_and_a_second_try_goes_on_from_there() {
    let bench = Bench::new();
    let steps = |fails: bool| {
        let slow = bench.step("slow", &[], |_| {
            std::thread::sleep(Duration::from_millis(150));
            Ok("slow".to_owned())
        });
        let bad = bench.step("bad", &[], move |run| {
            fs_err::write(run.scratch.join("trace"), "here").unwrap();
            if fails { Err(BuildError::bad("the compiler", "said no")) } else { Ok("good".to_owned()) }
        });
        vec![
            slow,
            bad,
            bench.step("after slow", &["slow"], |_| Ok(String::new())),
            bench.step("end", &["bad", "slow"], |_| Ok(String::new())),
        ]
    };
    let error = bench.build(steps(true), Rebuild::No).unwrap_err();
    assert_eq!(error.to_string(), "bad failed: the compiler: said no");
    let hint = error.hint().unwrap();
    let BuildError::StepFailed { scratch: Some(scratch), .. } = error else { panic!("{error:?}") };
    assert_eq!(fs_err::read_to_string(scratch.join("trace")).unwrap(), "here");
    assert!(hint.contains(scratch.to_str().unwrap()), "{hint}");
    assert_eq!(bench.ran(), ["bad", "slow"], "what ran is let finish, nothing new starts");
    assert_eq!(bench.scratch_left(), 1);
    let nothing = bench.step("nothing", &[], |_| Err(BuildError::bad("image.toml", "says no")));
    let error = bench.build(vec![nothing], Rebuild::No).unwrap_err();
    assert_eq!((error.hint(), bench.scratch_left()), (None, 1), "an empty scratch directory is not kept");
    assert_eq!(bench.ran(), ["nothing"]);
    let done = bench.build(steps(false), Rebuild::No).unwrap();
    assert_eq!(bench.ran(), ["after slow", "bad", "end"], "`slow` came to its end the first time");
    assert!(!done["slow"].built);
}

#[test]
fn scratch_that_tells_nothing_does_not_stay() {
    let bench = Bench::new();
    let full = || BuildError::io(Path::new("/some/file"), "write", std::io::ErrorKind::StorageFull.into());
    let refused = || BuildError::user("no namespaces here", "ask somebody");
    for why in [full, refused as fn() -> BuildError] {
        let error = bench.build(vec![bench.step("a", &[], move |_| Err(why()))], Rebuild::No).unwrap_err();
        let BuildError::StepFailed { scratch: None, hint: None, .. } = &error else { panic!("{error:?}") };
        assert_eq!(bench.scratch_left(), 0);
    }
    assert!(full().to_string().contains("no space left on the file system of `/some/file`"));
    assert_eq!(refused().hint().as_deref(), Some("ask somebody"));
}

#[test]
fn a_panic_and_outputs_that_are_not_there_are_failures() {
    let bench = Bench::new();
    let panics = bench.build(vec![bench.step("a", &[], |_| panic!("oh"))], Rebuild::No).unwrap_err();
    assert_eq!(panics.to_string(), "a panicked");
    let steps = vec![bench.step("a", &[], |_| Ok("x".to_owned())), {
        let mut step = bench.step("b", &[], |_| Ok(String::new()));
        step.inputs.push(("x", Input::Step { step: "a".to_owned(), output: "nope".to_owned() }));
        step
    }];
    let error = bench.build(steps, Rebuild::No).unwrap_err();
    assert_eq!(error.to_string(), "b: its input `x`: a makes no output `nope`");
    let mut missing = bench.step("c", &[], |_| Ok(String::new()));
    missing.inputs.push(("gone", Input::Blob { digest: Digest::of(b"gone"), size: 4 }));
    let error = bench.build(vec![missing], Rebuild::No).unwrap_err().to_string();
    assert!(error.starts_with("c, input `gone` failed: blob sha256:"), "{error}");
}

#[test]
fn damaged_realisations_and_lost_blobs_are_built_again() {
    let bench = Bench::new();
    let first = bench.build(chain(&bench, "# x\ncode"), Rebuild::No).unwrap();
    bench.ran();
    let file = bench.store.path().join("realisations").join(first["pack"].key.hex());
    fs_err::write(&file, "{").unwrap();
    assert_eq!(bench.build(chain(&bench, "# x\ncode"), Rebuild::No).unwrap()["pack"].outputs, first["pack"].outputs);
    assert_eq!(bench.ran(), ["pack"]);
    assert!(bench.store.realisation(&first["pack"].key).unwrap().is_some(), "it is whole again");
    bench.store.discard(&first["compile"].outputs["out"].digest).unwrap();
    bench.build(chain(&bench, "# x\ncode"), Rebuild::No).unwrap();
    assert_eq!(bench.ran(), ["compile"]);
}

#[test]
fn building_again_finds_what_differs() {
    let bench = Bench::new();
    let good = || bench.step("good", &[], |_| Ok("same".to_owned()));
    let by_threads = || {
        let mut step = bench.step("threads", &[], |run| Ok(format!("made by {}", run.threads)));
        step.cost.cores = 2;
        step
    };
    let by_path = || bench.step("path", &[], |run| Ok(run.scratch.display().to_string()));
    bench.build(vec![good(), by_threads(), by_path()], Rebuild::No).unwrap();
    bench.ran();
    bench.build(vec![good()], Rebuild::AndCompare).unwrap();
    assert_eq!(bench.ran(), ["good"], "it is there: once more is enough");
    let text = bench.build(vec![good(), by_threads()], Rebuild::AndCompare).unwrap_err().to_string();
    assert_eq!(text, "built again, threads is different:\n  output `out`: differs at byte 8 (9 bytes, 9 bytes)");
    let text = bench.build(vec![by_path()], Rebuild::AndCompare).unwrap_err().to_string();
    assert!(text.starts_with("built again, path is different:"), "{text}");
    bench.ran();
    bench.build(vec![bench.step("new", &[], |_| Ok("new".to_owned()))], Rebuild::AndCompare).unwrap();
    assert_eq!(bench.ran(), ["new", "new"], "never built: twice");
    let state = bench.step("state", &[], |run| Ok(run.scratch.display().to_string()));
    bench.build(vec![state], Rebuild::AndCompare).unwrap();
    assert_eq!(bench.ran(), ["state", "state"], "what varies on purpose is not compared");
}

#[test]
fn why_tells_what_changed_and_a_preview_runs_nothing() {
    let bench = Bench::new();
    let asked = |steps: Vec<Fake>, name: &str| {
        let plan = Plan::new(steps.into_iter().map(|s| Box::new(s) as Box<dyn Action>).collect()).unwrap();
        match preview(&plan, &bench.store, 7).unwrap().remove(name).unwrap() {
            Preview::Known { document, .. } => format!("{:?}", why(&bench.store, "lab", name, &document).unwrap()),
            Preview::Waits(on) => format!("waits for {on:?}"),
        }
    };
    assert_eq!(asked(chain(&bench, "code"), "compile"), format!("{:?}", Why::NeverBuilt));
    assert_eq!(asked(chain(&bench, "code"), "pack"), "waits for {\"compile\"}");
    bench.build(chain(&bench, "code"), Rebuild::No).unwrap();
    bench.ran();
    assert_eq!(asked(chain(&bench, "code"), "pack"), format!("{:?}", Why::Unchanged));
    let other = asked(chain(&bench, "other"), "compile");
    assert!(other.contains("input source") && other.contains(&Digest::of(b"code").to_string()), "{other}");
    let mut steps = chain(&bench, "code");
    steps[2].params = json!({"level": 9});
    assert!(asked(steps, "beside").contains("parameter /level"));
    assert_eq!(bench.ran(), Vec::<String>::new());
}

#[test]
fn the_garbage_collector_takes_realisations_with_their_blobs() {
    let bench = Bench::new();
    bench.build(chain(&bench, "code"), Rebuild::No).unwrap();
    let soon = std::time::SystemTime::now() + Duration::from_secs(60);
    let tried = bench.store.collect(soon, true).unwrap();
    assert_eq!((tried.realisations, bench.store.realisation_keys().unwrap().len()), (3, 3));
    let path = bench.store.path().to_owned();
    drop(bench.store);
    let store = Store::open(&path, Access::Exclusive).unwrap();
    assert_eq!(store.collect(soon, false).unwrap().realisations, 3);
    assert!(store.realisation_keys().unwrap().is_empty() && store.last_labs().unwrap().is_empty());
}
