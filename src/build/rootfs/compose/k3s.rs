//! k3s's files where k3s looks for them (k3s documentation, "Air-Gap Install", "Import Images", "Private Registry Configuration",
//! "Managing Packaged Components"). No identity: token and addresses come with [`ENV`], at the first `up`.

use super::files::Sources;
use super::over::Over;
use super::wishes::{K3s, K3sRole, Wishes};
use crate::build::BuildError;
use crate::build::tree::Entry;

/// The program.
pub(super) const PROGRAM: &str = "/usr/local/bin/k3s";
/// Where containerd of k3s pulls from (k3s, "Private Registry Configuration"); it may hold passwords.
pub(super) const REGISTRIES: &str = "/etc/rancher/k3s/registries.yaml";
/// Where images are imported from, in the order of their names.
pub(super) const IMAGES: &str = "var/lib/rancher/k3s/agent/images";
/// The file with what is not in any box: `K3S_TOKEN`, `K3S_URL` (worker), and `LABIMG_K3S_ARGS` with arguments such as
/// `--node-ip=192.168.56.10`. k3s starts when it is there.
pub const ENV: &str = "/etc/labimg/k3s.env";
/// Manifests that are applied at the first start.
const MANIFESTS: &str = "var/lib/rancher/k3s/server/manifests";
/// What archives of images may be called (`pkg/agent/containerd`).
const ENDINGS: [&str; 8] = [".tar", ".tar.zst", ".tzst", ".tar.lz4", ".tar.gz", ".tgz", ".tar.bz2", ".tbz"];
/// The unit that sees to a default route: k3s takes its address from there and does not start without one.
const ROUTE: &str = "labimg-default-route.service";
/// An address of no network (RFC 5737, TEST-NET-3) on an interface that leads nowhere, where nothing else gave a route.
const ROUTE_TEXT: &str = "[Unit]
Description=Default route where no network gives one
After=network-online.target
Wants=network-online.target
Before=k3s.service k3s-agent.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -euc 'ip -4 route show default | grep -q . && exit 0; ip link add dummy0 type dummy; ip link set dummy0 up; \
ip addr add 203.0.113.254/31 dev dummy0; ip route add default via 203.0.113.255 dev dummy0 metric 1000'

[Install]
WantedBy=multi-user.target
";

/// Puts the files.
///
/// # Errors
/// Names that k3s would not read; manifests for a worker.
pub(super) fn put(over: &mut Over<'_>, wishes: &Wishes, sources: &Sources<'_>) -> Result<(), BuildError> {
    let Some(k3s) = &wishes.k3s else { return Ok(()) };
    let program = sources.content(&k3s.program, PROGRAM)?;
    over.put(PROGRAM, Entry::file(over.origin(), 0o755, program))?;
    for name in ["kubectl", "crictl", "ctr"] {
        // Those of a package stay what they are.
        if !over.has(&format!("usr/bin/{name}")) {
            over.link(&format!("usr/local/bin/{name}"), "k3s")?;
        }
    }
    over.put(IMAGES, Entry::dir(over.origin()))?;
    // It is opened, not made: without it every start imports every image again.
    over.file(&format!("{IMAGES}/.cache.json"), 0o644, "")?;
    if let Some((name, archive)) = &k3s.airgap {
        let ending = ENDINGS.iter().filter(|e| name.ends_with(**e)).max_by_key(|e| e.len());
        let ending = ending.ok_or_else(|| {
            BuildError::user(
                format!("`{name}` can not be an archive of k3s's images"),
                format!("its name must end in one of: {}", ENDINGS.join(", ")),
            )
        })?;
        let content = sources.content(archive, &K3s::airgap_label(name))?;
        over.put(&format!("{IMAGES}/00-k3s{ending}"), Entry::file(over.origin(), 0o644, content))?;
    }
    if let Some(registries) = &k3s.registries {
        let content = sources.content(registries, REGISTRIES)?;
        over.put(REGISTRIES, Entry::file(over.origin(), 0o600, content))?;
    }
    manifests(over, k3s, sources)?;
    over.put("etc/labimg", Entry::dir(over.origin()))?;
    over.file(&format!("etc/systemd/system/{ROUTE}"), 0o644, ROUTE_TEXT)?;
    over.file(&format!("etc/systemd/system/{}", unit(k3s.role)), 0o644, service(k3s)?)
}

/// Units to start.
pub(super) fn units(wishes: &Wishes) -> Vec<&'static str> {
    wishes.k3s.iter().flat_map(|k| [ROUTE, unit(k.role)]).collect()
}

fn unit(role: K3sRole) -> &'static str {
    match role {
        K3sRole::Server => "k3s.service",
        K3sRole::Agent => "k3s-agent.service",
    }
}

fn manifests(over: &mut Over<'_>, k3s: &K3s, sources: &Sources<'_>) -> Result<(), BuildError> {
    if k3s.role == K3sRole::Agent && !k3s.manifests.is_empty() {
        return Err(BuildError::user(
            "a worker applies no manifests",
            "name them on the machine whose role is `server`",
        ));
    }
    for manifest in &k3s.manifests {
        let name = &manifest.name;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        // It becomes the name of an object (RFC 1123).
        if name.is_empty() || name.len() > 240 || !name.chars().all(plain) || name.starts_with(['-', '.']) {
            return Err(BuildError::user(
                format!("`{name}` can not be the name of a manifest for k3s"),
                "use a-z, 0-9, `-` and `.`, a letter or digit first",
            ));
        }
        let content = sources.content(&manifest.contents, &manifest.label())?;
        over.put(&format!("{MANIFESTS}/{name}.yaml"), Entry::file(over.origin(), 0o600, content))?;
    }
    Ok(())
}

/// The unit, as k3s's own installer has it, but for the file it waits for.
fn service(k3s: &K3s) -> Result<String, BuildError> {
    let (role, kind) = match k3s.role {
        K3sRole::Server => ("server", "notify"),
        K3sRole::Agent => ("agent", "exec"),
    };
    let args: Vec<String> = k3s.args.iter().map(|a| quoted(a)).collect::<Result<_, _>>()?;
    let args: String = args.iter().map(|a| format!(" {a}")).collect();
    Ok(format!(
        "[Unit]
Description=Lightweight Kubernetes ({role})
Documentation=https://k3s.io
After=network-online.target {ROUTE}
Wants=network-online.target
ConditionPathExists={ENV}

[Service]
Type={kind}
EnvironmentFile={ENV}
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart={PROGRAM} {role}{args} $LABIMG_K3S_ARGS
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
"
    ))
}

/// An argument as a unit has it (systemd.service(5), "COMMAND LINES").
fn quoted(arg: &str) -> Result<String, BuildError> {
    if arg.contains(['\n', '\r', '\0']) {
        return Err(BuildError::user(
            format!("`{}` can not be an argument of k3s", arg.escape_debug()),
            "leave the line feed out",
        ));
    }
    let escaped = arg.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}
