//! A real kind cluster, brought up out of a bundle and taken away again. Ignored: it wants Docker, and a bundle that carries
//! kind and labimg itself. `LABIMG_LAB_BUNDLE` names that; `LABIMG_LAB_PATH` the directories to find `docker` in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use labimg::base::report::Reporter;
use labimg::lab::{EngineSettings, Machine, Session, engine, preflight};
use labimg::model::platform::Platform;

struct Loud;

impl Reporter for Loud {
    fn warn(&self, text: &str) {
        eprintln!("warning: {text}");
    }
    fn note(&self, text: &str) {
        eprintln!("note: {text}");
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn machine(state: PathBuf) -> Machine {
    let path = std::env::var("LABIMG_LAB_PATH").or_else(|_| std::env::var("PATH")).unwrap();
    Machine {
        state_root: state,
        path: std::env::split_paths(&path).collect(),
        env: std::env::vars().collect(),
        engines: [("kind".to_owned(), EngineSettings::default())].into(),
        platform: Platform::here(),
        directory: std::env::current_dir().unwrap(),
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        jobs: 2,
        ..Machine::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants Docker and a bundle"]
async fn a_cluster_comes_up_and_goes() {
    let state =
        std::env::var("LABIMG_LAB_STATE").map_or_else(|_| std::env::temp_dir().join("labimg-lab"), PathBuf::from);
    let bundle = PathBuf::from(variable("LABIMG_LAB_BUNDLE"));
    let session = Session::open(&bundle, machine(state), Arc::new(Loud)).unwrap();
    let found = preflight::session(&session).await;
    for finding in &found {
        eprintln!("{finding:?}");
    }
    assert!(preflight::is_fit(&found));
    for round in ["first", "again"] {
        for cluster in &session.profile.cluster {
            let started = Instant::now();
            let up = engine::of_cluster(cluster).unwrap().up(&session, cluster).await;
            let kubeconfig = up.unwrap_or_else(|e| panic!("{e}\n{}", e.advice().unwrap_or_default()));
            eprintln!("{round}: {} after {:?}: {}", *cluster.name, started.elapsed(), kubeconfig.display());
        }
    }
    let machine = &session.machine;
    let status = labimg::lab::status::all(machine).await.unwrap();
    eprintln!("{}", serde_json::to_string_pretty(&status).unwrap());
    assert!(status[0].is_up());
    if std::env::var_os("LABIMG_LAB_KEEP").is_some() {
        return;
    }
    for round in ["first", "again"] {
        let started = Instant::now();
        let down = labimg::lab::down::down(session.name(), machine, &Loud).await.unwrap();
        eprintln!("{round}: down after {:?}: {down:?}", started.elapsed());
        assert_eq!(down.is_empty(), round == "again");
    }
    assert!(!session.state.dir().exists());
}
