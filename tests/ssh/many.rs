//! The same on many machines.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use labimg::base::report::{Reporter, TaskId};
use labimg::ssh::{Command, Exit, Line, SshError, Target, run_on_all};

use crate::server::Server;

/// Counts rows.
#[derive(Default)]
struct Rows {
    labels: Mutex<BTreeSet<String>>,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Reporter for Rows {
    fn begin(&self, label: &str, _: Option<u64>) -> TaskId {
        assert!(self.labels.lock().unwrap().insert(label.to_owned()), "one row per host");
        self.most.fetch_max(self.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        TaskId(0)
    }
    fn finish(&self, _: TaskId) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_hosts_at_once() {
    let Some(server) = Server::start() else { return };
    let mut targets: Vec<Target> =
        (0..20).map(|n| Target { name: format!("host-{n:02}"), ..server.target() }).collect();
    targets[7].hop.port = 1;
    let rows = Arc::new(Rows::default());
    let (lines, reporter) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&rows));
    let seen = Arc::clone(&lines);
    // On another task: the future must be one that can move between threads.
    let results = tokio::spawn(async move {
        let out = |line: &Line<'_>| seen.lock().unwrap().push(line.text());
        let command = Command::new(r"echo one; echo two >&2; printf 'three\377'; exit 3");
        run_on_all(&targets, &command, 8, Duration::from_secs(1), &*reporter, &out).await
    });
    let results = results.await.unwrap();
    assert_eq!(results.iter().map(|r| r.host.clone()).collect::<Vec<_>>().len(), 20);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.host, format!("host-{n:02}"));
        match &result.result {
            Ok(exit) => assert_eq!(*exit, Exit::Code(3)),
            Err(error) => assert!(n == 7 && matches!(error, SshError::NotReached { .. }), "{error}"),
        }
    }
    let lines = lines.lock().unwrap();
    for n in (0..20).filter(|n| *n != 7) {
        for text in ["one", "two", "three\u{fffd}"] {
            assert!(lines.contains(&format!("host-{n:02}: {text}")), "{n} {text}");
        }
    }
    // Each once; whatever else a login shell of this machine may say, as one does that finds its own files busy.
    let ours = |line: &&String| [": one", ": two", ": three\u{fffd}"].iter().any(|end| line.ends_with(end));
    assert_eq!(lines.iter().filter(ours).count(), 19 * 3, "{lines:#?}");
    assert_eq!(rows.labels.lock().unwrap().len(), 20);
    assert!(rows.most.load(Ordering::SeqCst) <= 8 && rows.open.load(Ordering::SeqCst) == 0);
}
