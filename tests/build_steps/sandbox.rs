//! What a program in a sandbox sees, and what it can not do.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use labimg::build::sandbox::{Exit, LOG, Spec, Stop, run};

use crate::support::{Box, helper};

/// Whether a process of this machine was started with this word.
fn lives(word: &str) -> bool {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|e| std::fs::read(e.ok()?.path().join("cmdline")).ok());
    processes.into_iter().any(|line| line.split(|b| *b == 0).any(|w| w == word.as_bytes()))
}

fn dies(word: &str) -> bool {
    let start = Instant::now();
    while lives(word) {
        if start.elapsed() > Duration::from_secs(5) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn there_is_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut sandbox = Box::new();
    let devices = sandbox.says("cat /proc/net/dev");
    let names: Vec<&str> = devices.lines().skip(2).filter_map(|l| l.split(':').next()).map(str::trim).collect();
    assert_eq!(names, ["lo"]);
    let ended = sandbox.sh(&format!("exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'"));
    assert_eq!(ended.exit, Exit::Code(1));
    assert!(ended.output.contains("unreachable") || ended.output.contains("refused"), "{}", ended.output);
}

#[test]
fn only_the_tree_and_inputs_are_there() {
    let mut sandbox = Box::new();
    let outside = sandbox.dir.path().join("secret");
    std::fs::write(&outside, "host").unwrap();
    let (file, dir) = (sandbox.dir.path().join("file"), sandbox.dir.path().join("dir"));
    std::fs::write(&file, "one").unwrap();
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("two"), "two").unwrap();
    sandbox.spec.inputs = [("a.txt".to_owned(), file), ("b".to_owned(), dir)].into();
    let all = sandbox.says("echo $(ls -A /); echo $(ls -A /in /in/b /tmp /out); cat /in/a.txt /in/b/two");
    assert_eq!(all, "bin dev etc in lib lib64 out proc run tmp usr\n/in: a.txt b /in/b: two /out: /tmp:\nonetwo");
    assert_eq!(sandbox.sh(&format!("cat {}", outside.display())).exit, Exit::Code(1));
    for program in ["ldd", "perl", "git", "cargo"] {
        assert_eq!(sandbox.sh(&format!("command -v {program}")).exit, Exit::Code(127), "{program}");
    }
    let processes = sandbox.says("echo /proc/[0-9]*");
    assert_eq!(processes.split_whitespace().count(), 2, "process 1 and the shell: {processes}");
}

#[test]
fn user_environment_and_files_are_the_same_everywhere() {
    let mut sandbox = Box::new();
    sandbox.spec.env = [("GREETING".to_owned(), "hi".to_owned()), ("HOME".to_owned(), "/nowhere".to_owned())].into();
    assert_eq!(sandbox.says("id -u; id -g; uname -n; umask; pwd"), "0\n0\nlabimg\n0022\n/tmp\n");
    let environment = "GREETING=hi\nHOME=/tmp\nLABIMG_CORES=3\nLC_ALL=C.UTF-8\n\
                       PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/tmp\n\
                       SOURCE_DATE_EPOCH=1700000000\nTZ=UTC\n";
    assert_eq!(sandbox.says("env | sort"), environment);
    assert_eq!(sandbox.says("ls /proc/self/fd; wc -c"), "0\n1\n2\n3\n0\n", "3 is the listing itself; no input");
    assert_eq!(
        sandbox.says("echo $(ls /dev); head -c 3 /dev/zero | wc -c; echo x >/dev/null; head -c 9 /dev/urandom | wc -c"),
        "fd full null random shm stderr stdin stdout urandom zero\n3\n9\n"
    );
    assert_eq!(sandbox.says("echo to out; echo to err >&2; echo done"), "to out\nto err\ndone\n");
}

#[test]
fn only_out_and_tmp_can_be_written() {
    let mut sandbox = Box::new();
    let file = sandbox.dir.path().join("file");
    std::fs::write(&file, "one").unwrap();
    sandbox.spec.inputs = [("a".to_owned(), file.clone())].into();
    for try_ in [
        "touch /x",
        "touch /usr/x",
        "touch /in/x",
        "echo two >/in/a",
        "touch /dev/x",
        "rm /usr/bin/cat",
        "umount /usr",
        "umount -l /in/a",
        "mount -o remount,rw /usr",
        "mount -o bind,remount,rw /usr",
        "echo 1 >/proc/sys/kernel/pid_max",
        "cat /proc/1/environ",
        "cd /proc/1/root",
        "ls /proc/1/cwd/",
    ] {
        assert_ne!(sandbox.sh(try_).exit, Exit::Code(0), "{try_}");
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "one");
    sandbox.says("echo kept >/out/x; echo kept >/tmp/x; echo x >/dev/shm/x");
    assert_eq!(std::fs::read_to_string(sandbox.spec.out().join("x")).unwrap(), "kept\n");
}

#[test]
fn how_a_program_ends_is_told() {
    let mut sandbox = Box::new();
    assert_eq!(sandbox.sh("exit 7").exit, Exit::Code(7));
    assert_eq!(sandbox.sh("kill -9 $$").exit, Exit::Signal(9));
    assert_eq!(sandbox.sh("kill -TERM $$").exit, Exit::Signal(15), "the program is not process 1");
    let start = Instant::now();
    assert_eq!(sandbox.sh("sleep 977 & exit 0").exit, Exit::Code(0));
    assert!(start.elapsed() < Duration::from_secs(60) && dies("977"), "what is left is killed");
    let long = sandbox.sh("head -c 300000 /dev/zero | tr '\\0' x; echo end");
    assert_eq!((long.output.len(), long.output.ends_with("xend\n")), (64 * 1024, true));
    assert_eq!(std::fs::metadata(sandbox.spec.scratch.join(LOG)).unwrap().len(), 300_004);
    sandbox.spec.argv = vec!["nope".to_owned()];
    let error = run(&helper(), &sandbox.spec, Stop::default()).unwrap_err().to_string();
    assert!(error.contains("can not run `nope` of the toolchain"), "{error}");
    sandbox.spec.tree = "/not-there".into();
    let error = run(&helper(), &sandbox.spec, Stop::default()).unwrap_err().to_string();
    assert!(error.contains("the toolchain tree: ") && error.contains("/not-there"), "{error}");
    sandbox.spec.inputs = [("../x".to_owned(), "/".into())].into();
    run(&helper(), &sandbox.spec, Stop::default()).unwrap_err();
}

#[test]
fn a_program_is_stopped_with_all_it_started() {
    let mut sandbox = Box::new();
    let timeout = Some(Duration::from_millis(300));
    let ended = sandbox.stopped("echo started; sleep 978 & sleep 978", Stop { timeout, cancel: None });
    assert_eq!((ended.exit, ended.output.as_str()), (Exit::TimedOut(Duration::from_millis(300)), "started\n"));
    assert!(dies("978"));
    let cancel = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            cancel.store(true, Ordering::Relaxed);
        });
        let ended = sandbox.stopped("sleep 979", Stop { timeout: None, cancel: Some(&cancel) });
        assert_eq!(ended.exit, Exit::Cancelled);
    });
    assert!(dies("979"));
}

#[test]
fn a_sandbox_ends_with_labimg_and_leaves_no_mounts() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let mut sandbox = Box::new();
    sandbox.says("true");
    // The outer helper is what labimg's death kills first: the kernel does it, here we do.
    let spec = sandbox.spec.scratch.join("sandbox.json");
    let again =
        Spec { argv: ["/bin/sleep", "980"].map(str::to_owned).into(), ..Spec::load(&sandbox.spec.scratch).unwrap() };
    std::fs::write(&spec, serde_json::to_string(&again).unwrap()).unwrap();
    let parent = std::process::id().to_string();
    let mut command = Command::new(helper());
    let mut outer =
        command.args(["sandbox-init", spec.to_str().unwrap(), &parent]).stdin(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !lives("980") {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    outer.kill().unwrap();
    outer.wait().unwrap();
    assert!(dies("980"));
    assert_eq!(mounts(), before);
    assert_eq!(std::fs::read_dir(sandbox.spec.scratch.join("root")).unwrap().count(), 0);
}

/// Runs the helper in a user namespace of its own, where `setting` was written to the namespace's limit.
fn in_a_container(sandbox: &Box, setting: &str) -> String {
    let status = sandbox.spec.scratch.join("status.json");
    std::fs::write(&status, "").unwrap();
    let script = "echo \"$1\" >/proc/sys/user/max_user_namespaces && exec \"$2\" sandbox-init \"$3\" \"$4\"";
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--user", "--map-root-user", "/bin/sh", "-c", script, "x", setting]).arg(helper());
    command.arg(sandbox.spec.scratch.join("sandbox.json")).arg(std::process::id().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    std::fs::read_to_string(status).unwrap()
}

#[test]
fn a_container_is_no_obstacle_and_a_refusal_names_the_setting() {
    let mut sandbox = Box::new();
    sandbox.says("true");
    assert_eq!(in_a_container(&sandbox, "99"), "{\"code\":0}");
    let refused = in_a_container(&sandbox, "0");
    assert!(refused.contains("does not let us make a user namespace"), "{refused}");
    assert!(refused.contains("sysctl user.max_user_namespaces=15000"), "{refused}");
}
