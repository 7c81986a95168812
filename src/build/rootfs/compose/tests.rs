//! Wishes on top of a small machine, file by file.

use super::*;
use crate::base::digest::Digest;
use crate::build::debian::inside;
use crate::build::tree::{Content, Entry, Kind};
use crate::model::guest_path::GuestPath;
use crate::store::{Access, Store};
use std::sync::Arc;

const EPOCH: u64 = 86_400 * 100;

/// A store, and what lies in it by label.
struct Bed {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    inputs: BTreeMap<String, crate::build::step::Output>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), Access::Shared).unwrap());
        Self { _dir: dir, store, inputs: BTreeMap::new() }
    }

    fn blob(&mut self, label: &str, bytes: &[u8]) -> Contents {
        let (digest, size) = (self.store.put(bytes).unwrap(), bytes.len() as u64);
        self.inputs.insert(label.to_owned(), crate::build::step::Output { digest, size, facts: BTreeMap::new() });
        Contents::Blob { digest, size }
    }

    fn compose(&self, wishes: &Wishes) -> Result<Tree, BuildError> {
        let mut tree = machine();
        let sources = files::Sources { store: &self.store, inputs: &self.inputs };
        compose(&mut tree, wishes, &sources, EPOCH).map(|()| tree)
    }
}

/// What packages would leave, as far as it matters.
fn machine() -> Tree {
    let origin: Arc<str> = "packages".into();
    let mut tree = Tree::default();
    let unit = "[Unit]\nWantedBy=no.target\n[Install]\nWantedBy=multi-user.target\nAlias=";
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin"),
        ("etc/group", "root:x:0:\nsudo:x:27:\nwww-data:x:33:\nadm:x:4:syslog\n"),
        ("etc/shadow", "root:*:100:0:99999:7:::\n"),
        ("etc/gshadow", "root:*::\nsudo:*::\nadm:*::syslog\n"),
        ("etc/sudoers", "x\n"),
        ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 labimg\n"),
        ("etc/skel/.profile", "# skel\n"),
        ("usr/bin/ssh-keygen", "x"),
        ("usr/lib/systemd/system/ssh.service", &format!("{unit}sshd.service\n")),
        ("usr/lib/systemd/system/web@.service", "[Install]\nWantedBy=multi-user.target %i.target\n"),
        ("usr/lib/systemd/system/static.service", "[Service]\nExecStart=x\n"),
        ("usr/lib/systemd/system/apt-daily.timer", "[Install]\nWantedBy=timers.target\n"),
        (
            "usr/lib/systemd/system/systemd-networkd.service",
            &format!("{unit}dbus-x.service\nAlso=two.socket gone.service\n"),
        ),
        ("usr/lib/systemd/system/two.socket", "[Install]\nWantedBy=sockets.target\n"),
    ] {
        let entry = Entry::file(&origin, 0o640, Content::bytes(text.as_bytes()));
        tree.put(GuestPath::parse(path).unwrap(), entry);
    }
    tree.put(GuestPath::parse("lib").unwrap(), Entry::symlink(&origin, "usr/lib"));
    tree.put(
        GuestPath::parse("etc/systemd/system/multi-user.target.wants/two.socket").unwrap(),
        Entry::symlink(&origin, "/lib/systemd/system/two.socket"),
    );
    tree
}

fn text(tree: &Tree, path: &str) -> String {
    inside::text(tree, path).unwrap_or_else(|| panic!("no {path}"))
}

fn entry<'t>(tree: &'t Tree, path: &str) -> &'t Entry {
    tree.get(&GuestPath::parse(path).unwrap()).unwrap_or_else(|| panic!("no {path}"))
}

fn link<'t>(tree: &'t Tree, path: &str) -> &'t str {
    match &entry(tree, path).kind {
        Kind::Symlink(to) => to,
        other => panic!("{path}: {other:?}"),
    }
}

fn user(name: &str, uid: u32) -> User {
    User {
        name: name.to_owned(),
        uid,
        groups: Vec::new(),
        shell: "/bin/sh".to_owned(),
        sudo: false,
        authorized_keys: Vec::new(),
    }
}

#[test]
fn the_insecure_key_is_vagrants_own_file() {
    let digest = Digest::of(INSECURE_KEY.as_bytes()).hex();
    assert_eq!(digest, "9aa9292172c915821e29bcbf5ff42d4940f59d6a148153c76ad638f5f4c6cd8b");
    assert_eq!(INSECURE_KEY.lines().count(), 1);
}

#[test]
fn every_box_has_vagrants_user_a_network_and_host_keys_to_come() {
    let tree = Bed::new().compose(&Wishes { hostname: "node-1".into(), ..Wishes::default() }).unwrap();
    assert!(text(&tree, "etc/passwd").ends_with("nologin\nvagrant:x:1000:1000::/home/vagrant:/bin/bash\n"));
    assert_eq!(text(&tree, "etc/shadow"), "root:*:100:0:99999:7:::\nvagrant:*:100:0:99999:7:::\n");
    assert!(text(&tree, "etc/gshadow").ends_with("vagrant:!::\n"));
    assert_eq!(text(&tree, "etc/subuid"), "vagrant:100000:65536\n");
    assert_eq!(text(&tree, "home/vagrant/.ssh/authorized_keys"), INSECURE_KEY);
    for (path, mode, uid) in [
        ("home/vagrant", 0o755, 1000),
        ("home/vagrant/.ssh", 0o700, 1000),
        ("home/vagrant/.ssh/authorized_keys", 0o600, 1000),
        ("home/vagrant/.profile", 0o640, 1000),
        ("etc/sudoers.d/vagrant", 0o440, 0),
        ("etc/shadow", 0o640, 0),
    ] {
        let found = entry(&tree, path);
        assert_eq!((found.mode, found.uid), (mode, uid), "{path}");
    }
    assert_eq!(
        (text(&tree, "etc/hostname"), text(&tree, "etc/hosts").contains("127.0.1.1 node-1\n")),
        ("node-1\n".into(), true)
    );
    let wants = "etc/systemd/system/multi-user.target.wants";
    assert_eq!(link(&tree, &format!("{wants}/ssh.service")), "/usr/lib/systemd/system/ssh.service");
    assert_eq!(link(&tree, "etc/systemd/system/sshd.service"), "/usr/lib/systemd/system/ssh.service");
    assert_eq!(
        link(&tree, &format!("{wants}/labimg-host-keys.service")),
        "/etc/systemd/system/labimg-host-keys.service"
    );
    assert_eq!(link(&tree, "etc/systemd/system/sockets.target.wants/two.socket"), "/usr/lib/systemd/system/two.socket");
    assert_eq!(link(&tree, "etc/systemd/system/apt-daily.timer"), "/dev/null");
    assert!(tree.get(&GuestPath::parse("etc/systemd/system/no.target.wants").unwrap()).is_none());
    assert!(text(&tree, "etc/ssh/sshd_config.d/50-labimg.conf").contains("UseDNS no"));
}

#[test]
fn users_join_groups_and_clashes_are_told() {
    let bed = Bed::new();
    let with = |user: User| bed.compose(&Wishes { users: vec![user], ..Wishes::default() });
    let ada = User { groups: vec!["adm".into(), "sudo".into()], ..user("ada", 1001) };
    let tree = with(ada).unwrap();
    assert!(
        text(&tree, "etc/group").contains("sudo:x:27:ada\n")
            && text(&tree, "etc/group").contains("adm:x:4:syslog,ada\n")
    );
    assert!(text(&tree, "etc/gshadow").contains("adm:*::syslog,ada\n"));
    assert_eq!(text(&tree, "etc/subgid"), "vagrant:100000:65536\nada:165536:65536\n");
    let root = with(User { authorized_keys: vec!["ssh-ed25519 AAAA x".into()], ..user("root", 0) }).unwrap();
    assert_eq!(text(&root, "root/.ssh/authorized_keys"), "ssh-ed25519 AAAA x\n");
    for (wrong, says) in [
        (user("www-data", 1001), "clashes with user `www-data`"),
        (user("eve", 33), "clashes with user `www-data` (33)"),
        (user("eve", 27), "clashes with group `sudo`"),
        (user("a/b", 1001), "can not be a user's name"),
        (user("eve", 1000), "clashes with user `vagrant`"),
        (User { groups: vec!["docker".into()], ..user("eve", 1001) }, "group `docker`, which the box does not have"),
        (
            User { authorized_keys: vec!["-----BEGIN OPENSSH PRIVATE KEY-----".into()], ..user("eve", 1001) },
            "can not be a key",
        ),
    ] {
        let error = with(wrong).unwrap_err();
        assert!(error.to_string().contains(says) && error.hint().is_some(), "{error}");
    }
}

#[test]
fn files_stand_where_links_lead_and_nothing_replaces_a_directory() {
    let mut bed = Bed::new();
    let blob = bed.blob("/lib/app/data", b"data");
    let file = |to: &str, contents: Contents| File {
        to: to.into(),
        contents,
        mode: Some(0o600),
        owner: Some("vagrant:adm".into()),
    };
    let links = BTreeMap::from([("/usr/local/bin/app".to_owned(), "../../lib/app/data".to_owned())]);
    let wishes = Wishes { files: vec![file("/lib/app/data", blob)], links, ..Wishes::default() };
    let tree = bed.compose(&wishes).unwrap();
    let found = entry(&tree, "usr/lib/app/data");
    assert_eq!((found.mode, found.uid, found.gid), (0o600, 1000, 4));
    assert_eq!(text(&tree, "usr/local/bin/app"), "data");
    for (to, says) in
        [("/etc", "a directory is there"), ("/etc/passwd/x", "is no directory"), ("/", "root"), ("/../x", "`..`")]
    {
        let wishes = Wishes { files: vec![file(to, Contents::Text("x".into()))], ..Wishes::default() };
        let error = bed.compose(&wishes).unwrap_err().to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
    let nobody = File { owner: Some("nobody-there".into()), ..file("/x", Contents::Text("x".into())) };
    assert!(bed.compose(&Wishes { files: vec![nobody], ..Wishes::default() }).is_err());
}

#[test]
fn files_and_folders_come_out_of_steps() {
    let mut bed = Bed::new();
    let origin: Arc<str> = "step".into();
    let mut tree = Tree::default();
    for (path, mode) in [("site/a", 0o644), ("site/bin/run", 0o755), ("other", 0o644)] {
        tree.put(GuestPath::parse(path).unwrap(), Entry::file(&origin, mode, Content::bytes(path.as_bytes())));
    }
    let out = write_tree(&tree, 7, &bed.store).unwrap();
    let file = |to: &str, path: &str| File {
        to: to.into(),
        contents: Contents::Member { step: "step page".into(), output: "out".into(), path: path.into() },
        mode: None,
        owner: Some("33".into()),
    };
    for to in ["/srv/www", "/srv/one", "/srv/none"] {
        bed.inputs.insert(to.into(), out.clone());
    }
    let wishes = Wishes { files: vec![file("/srv/www", "site"), file("/srv/one", "other")], ..Wishes::default() };
    let tree = bed.compose(&wishes).unwrap();
    assert_eq!((text(&tree, "srv/www/a"), text(&tree, "srv/one")), ("site/a".into(), "other".into()));
    let found = entry(&tree, "srv/www/bin/run");
    assert_eq!((found.mode, found.uid, found.gid), (0o755, 33, 33));
    let error = bed.compose(&Wishes { files: vec![file("/srv/none", "nope")], ..Wishes::default() }).unwrap_err();
    assert!(error.hint().unwrap().contains("other"), "{error}");
    assert_eq!(wishes.inputs().len(), 2);
}

#[test]
fn units_are_enabled_disabled_and_masked() {
    let bed = Bed::new();
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let wishes = Wishes {
        enable: list(&["web@blue.service", "apt-daily.timer"]),
        disable: list(&["ssh.service"]),
        mask: list(&["two.socket"]),
        ..Wishes::default()
    };
    let tree = bed.compose(&wishes).unwrap();
    let etc = "etc/systemd/system";
    for by in ["multi-user.target", "blue.target"] {
        assert_eq!(link(&tree, &format!("{etc}/{by}.wants/web@blue.service")), "/usr/lib/systemd/system/web@.service");
    }
    assert_eq!(
        link(&tree, &format!("{etc}/timers.target.wants/apt-daily.timer")),
        "/usr/lib/systemd/system/apt-daily.timer"
    );
    assert!(tree.get(&GuestPath::parse("etc/systemd/system/apt-daily.timer").unwrap()).is_none(), "no mask");
    for gone in ["multi-user.target.wants/ssh.service", "sshd.service"] {
        assert!(tree.get(&GuestPath::parse(&format!("{etc}/{gone}")).unwrap()).is_none(), "{gone}");
    }
    assert_eq!(link(&tree, &format!("{etc}/two.socket")), "/dev/null");
    for (unit, says) in [
        ("static.service", "no [Install] section"),
        ("shh.service", "no unit"),
        ("ssh", "can not be a unit's name"),
        ("../x.service", "can not be a unit's name"),
    ] {
        let error = bed.compose(&Wishes { enable: list(&[unit]), ..Wishes::default() }).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = bed.compose(&Wishes { disable: list(&["shh.service"]), ..Wishes::default() }).unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean `ssh.service`?");
}

fn k3s(role: K3sRole, program: Contents) -> K3s {
    K3s { role, program, airgap: None, registries: None, manifests: Vec::new(), args: Vec::new() }
}

#[test]
fn k3s_finds_its_files_and_no_identity() {
    let mut bed = Bed::new();
    let program = bed.blob(k3s::PROGRAM, b"k3s");
    let airgap = bed.blob("/airgap/k3s-airgap-images-amd64.tar.zst", b"images");
    let image = bed.blob("/image/app.tar", b"app");
    let manifest = Manifest { name: "otel".into(), contents: Contents::Text("kind: x".into()) };
    let server = K3s {
        airgap: Some(("k3s-airgap-images-amd64.tar.zst".into(), airgap)),
        registries: Some(Contents::Text("mirrors: {}\n".into())),
        manifests: vec![manifest.clone()],
        args: vec!["--disable=traefik".into(), "--x=a b%$".into()],
        ..k3s(K3sRole::Server, program.clone())
    };
    let wishes = Wishes {
        k3s: Some(server),
        images: vec![Preload { name: "app.tar".into(), contents: image }],
        ..Wishes::default()
    };
    assert_eq!(wishes.inputs().len(), 3);
    let tree = bed.compose(&wishes).unwrap();
    assert_eq!((text(&tree, "usr/local/bin/k3s"), entry(&tree, "usr/local/bin/k3s").mode), ("k3s".into(), 0o755));
    let images = "var/lib/rancher/k3s/agent/images";
    assert_eq!(inside::list(&tree, images), [".cache.json", "00-k3s.tar.zst", "10-app.tar"]);
    assert_eq!(text(&tree, "var/lib/rancher/k3s/server/manifests/otel.yaml"), "kind: x");
    let unit = text(&tree, "etc/systemd/system/k3s.service");
    assert!(
        unit.contains("ExecStart=/usr/local/bin/k3s server \"--disable=traefik\" \"--x=a b%%$$\" $LABIMG_K3S_ARGS\n"),
        "{unit}"
    );
    assert!(unit.contains("ConditionPathExists=/etc/labimg/k3s.env\n") && !unit.contains("TOKEN"));
    assert!(entry(&tree, "etc/systemd/system/multi-user.target.wants/k3s.service").mode == 0o777);
    assert!(inside::list(&tree, "etc/labimg").is_empty());
    let agent = Wishes { k3s: Some(k3s(K3sRole::Agent, program.clone())), ..Wishes::default() };
    let tree = bed.compose(&agent).unwrap();
    assert!(text(&tree, "etc/systemd/system/k3s-agent.service").contains("k3s agent $LABIMG"));
    let wrong = K3s { manifests: vec![manifest], ..k3s(K3sRole::Agent, program) };
    assert!(bed.compose(&Wishes { k3s: Some(wrong), ..Wishes::default() }).is_err());
}

#[test]
fn images_need_something_that_loads_them() {
    let mut bed = Bed::new();
    let image = Preload { name: "app.tar.zst".into(), contents: bed.blob("/image/app.tar.zst", b"app") };
    let mut wishes = Wishes { images: vec![image.clone()], ..Wishes::default() };
    assert!(bed.compose(&wishes).unwrap_err().hint().unwrap().contains("containerd"));
    let engine = |to: &str| File { to: to.into(), contents: Contents::Text("x".into()), mode: None, owner: None };
    let mut tree = machine();
    let sources = files::Sources { store: &bed.store, inputs: &bed.inputs };
    let put = |tree: &mut Tree, path: &str| {
        tree.put(GuestPath::parse(path).unwrap(), Entry::file(&"x".into(), 0o755, Content::bytes(*b"x")));
    };
    put(&mut tree, "usr/bin/containerd");
    compose(&mut tree, &wishes, &sources, EPOCH).unwrap();
    let unit = text(&tree, "etc/systemd/system/labimg-images.service");
    assert!(unit.contains("ctr -n k8s.io images import -") && unit.contains("Requires=containerd.service"), "{unit}");
    assert_eq!(text(&tree, "var/lib/labimg/images/10-app.tar.zst"), "app");
    assert!(
        tree.get(&GuestPath::parse("etc/systemd/system/multi-user.target.wants/labimg-images.service").unwrap())
            .is_some()
    );
    let mut tree = machine();
    put(&mut tree, "usr/bin/containerd");
    put(&mut tree, "usr/bin/dockerd");
    compose(&mut tree, &wishes, &sources, EPOCH).unwrap();
    assert!(text(&tree, "etc/systemd/system/labimg-images.service").contains("| docker load"));
    wishes.images = vec![Preload { name: "../app.tar".into(), ..image }];
    wishes.files = vec![engine("/usr/bin/x")];
    assert!(bed.compose(&wishes).unwrap_err().to_string().contains("can not be the file name"));
}
