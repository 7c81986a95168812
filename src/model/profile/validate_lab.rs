//! Clusters, secrets and checks: one kind each, with texts that mean something.

use super::lab::{Check, Cluster, Engine, HttpCheck, Secret};
use super::types::{Profile, Reach};
use super::validate::{Findings, NAME_RULE, is_name};
use super::validate_deploy::{Names, cluster, clusters as cluster_names, is_duration, readiness};
use crate::model::source_map::Loc;

/// What only some engines know.
pub(super) fn clusters(profile: &Profile, found: &mut Findings<'_>) {
    for cluster in &profile.cluster {
        let kind = *cluster.engine == Engine::Kind;
        if cluster.preload && !kind {
            found.add(&cluster.engine.span(), "`preload` goes with engine `kind`");
        }
        if cluster.preload && cluster.node_image.is_none() {
            let text = format!("cluster `{}` preloads, so it needs its `node-image`", *cluster.name);
            found.add(&cluster.name.span(), text);
        }
        for patch in cluster.kubeadm_patches.iter().filter(|_| !kind) {
            found.add(&patch.span(), "`kubeadm-patches` go with engine `kind`");
        }
        mounts(cluster, found);
    }
}

fn mounts(cluster: &Cluster, found: &mut Findings<'_>) {
    for mount in &cluster.mounts {
        if mount.path.is_some() == mount.host.is_some() {
            found.add(&mount.node.span(), "a mount needs either `path` or `host`");
        }
        if !mount.node.starts_with('/') || mount.node.split('/').any(|part| part == "..") {
            found.add(&mount.node.span(), format!("`{}` is no absolute path in a node", *mount.node));
        }
        if mount.writable && mount.host.is_none() {
            found.add(&mount.node.span(), "only a `host` directory can be `writable`");
        }
    }
}

/// Secrets: made in one way, from secrets that exist.
pub(super) fn secrets(profile: &Profile, found: &mut Findings<'_>) {
    let names: Names<'_> = profile.secret.keys().map(String::as_str).collect();
    let known = cluster_names(profile);
    for (name, secret) in &profile.secret {
        if !is_name(name) {
            let span = secret.generate.as_ref().map(Loc::span).or(secret.field.as_ref().map(|f| f.object.span()));
            let shown = name.escape_debug();
            found.add(&span.unwrap_or(profile.name.span()), format!("`{shown}` is not a name")).hint =
                Some(NAME_RULE.to_owned());
        }
        match (&secret.generate, &secret.field) {
            (Some(text), None) => generated(text, secret, profile, &names, found),
            (None, Some(field)) => {
                cluster(field.cluster.as_ref(), &field.object, &known, found);
                if !field.path.starts_with('$') {
                    found.add(&field.path.span(), format!("`{}` is no JSONPath", *field.path));
                }
                if field.object.split_once('/').is_none_or(|(kind, name)| kind.is_empty() || name.is_empty()) {
                    found.add(&field.object.span(), format!("`{}` is not `KIND/NAME`", *field.object));
                }
            }
            (Some(text), Some(_)) => {
                found.add(&text.span(), format!("secret `{name}` has both `generate` and `field`"));
            }
            (None, None) => {
                found.add(&profile.name.span(), format!("secret `{name}` needs `generate` or `field`"));
            }
        }
    }
}

fn generated(text: &Loc<String>, secret: &Secret, profile: &Profile, names: &Names<'_>, found: &mut Findings<'_>) {
    let right = match text.split_once(':') {
        Some(("alnum" | "hex", n)) => n.parse::<u32>().is_ok_and(|n| (8..=1024).contains(&n)),
        Some(("ca" | "cert", name)) => !name.is_empty(),
        _ => false,
    };
    if !right {
        found.add(&text.span(), format!("`{}` is no way to make a secret", **text)).hint =
            Some("`alnum:24` or `hex:32`, with 8 to 1024 characters; `ca:NAME` or `cert:NAME`".to_owned());
    }
    let cert = text.starts_with("cert:");
    if (cert || text.starts_with("ca:")) && profile.host.iter().any(|h| h.reach == Reach::Vagrant) {
        let message = format!("`{}` can not be made where the lab is machines of Vagrant", **text);
        found.add(&text.span(), message).hint =
            Some("their Vagrantfile makes `alnum:24` and `hex:32`; a certificate is made on a machine".to_owned());
    }
    match &secret.ca {
        Some(ca) if cert => {
            found.must_exist(ca, "secret", names);
            let signs = |s: &Secret| s.generate.as_ref().is_some_and(|g| g.starts_with("ca:"));
            if profile.secret.get(ca.as_str()).is_some_and(|s| !signs(s)) {
                found.add(&ca.span(), format!("`{}` is no authority: it needs `generate = \"ca:…\"`", **ca));
            }
        }
        None if cert => {
            found.add(&text.span(), "a certificate needs the secret that signs it: `ca = …`");
        }
        Some(ca) => {
            found.add(&ca.span(), "`ca` goes with `cert:…`");
        }
        None => {}
    }
    if let Some(name) = secret.names.first().filter(|_| !cert) {
        found.add(&name.span(), "`names` go with `cert:…`");
    }
}

/// Checks: one kind of look each, at things that exist.
pub(super) fn checks(profile: &Profile, found: &mut Findings<'_>) {
    let known = cluster_names(profile);
    let deploys: Names<'_> = profile.deploy.iter().map(|d| d.name.as_str()).collect();
    for check in &profile.check {
        cluster(check.cluster.as_ref(), &check.name, &known, found);
        one_kind(check, found);
        readiness(&check.ready, found);
        let via = check.trace.iter().map(|t| &t.via).chain(check.metric.iter().map(|m| &m.via));
        for name in via {
            found.must_exist(name, "deploy", &deploys);
        }
        let least = check.trace.iter().filter_map(|t| t.min_duration.as_ref());
        for text in check.timeout.iter().chain(least) {
            is_duration(text, found);
        }
        if let Some(ssh) = &check.ssh {
            found.must_exist(&ssh.host, "host", &profile.host.iter().map(|h| h.name.as_str()).collect());
        }
        let requests = check.http.iter().chain(check.trace.iter().filter_map(|t| t.request.as_ref()));
        for request in requests {
            page(request, check, found);
        }
    }
}

fn one_kind(check: &Check, found: &mut Findings<'_>) {
    let kinds = [
        !check.ready.is_empty(),
        check.http.is_some(),
        check.trace.is_some(),
        check.metric.is_some(),
        check.log.is_some(),
        check.dns.is_some(),
        check.ssh.is_some(),
        check.images,
    ];
    if kinds.into_iter().filter(|k| *k).count() != 1 {
        let text = format!(
            "check `{}` needs exactly one of `ready`, `http`, `trace`, `metric`, `log`, `dns`, `ssh` and `images`",
            *check.name
        );
        found.add(&check.name.span(), text);
    }
}

fn page(request: &HttpCheck, check: &Check, found: &mut Findings<'_>) {
    for path in request.json.keys().filter(|p| !p.starts_with('$')) {
        found.add(&check.name.span(), format!("`{path}` is no JSONPath: it starts with `$`"));
    }
}
