//! Certificate authorities as update-ca-certificates(8) sets them up: `/etc/ca-certificates.conf`, a link for each in
//! `/etc/ssl/certs`, and all of them in one file.
//!
//! The links named by OpenSSL's hash are not made. OpenSSL reads a file before it looks into that directory, so
//! `/usr/lib/ssl/cert.pem` leads to the one with all of them: every program that asks OpenSSL for its defaults finds them.

use std::sync::Arc;

use crate::build::debian::inside;
use crate::build::tree::{Content, Entry, Tree};
use crate::model::guest_path::GuestPath;

/// Where packages put certificates.
const FROM: &str = "usr/share/ca-certificates";

/// Sets up all certificates of the tree.
pub fn apply(tree: &mut Tree) {
    let origin: Arc<str> = "certificate authorities".into();
    let Ok(from) = GuestPath::parse(FROM) else { return };
    let found = tree.entries.keys().filter(|p| p.is_within(&from) && p.name().ends_with(".crt"));
    let paths: Vec<GuestPath> = found.cloned().collect();
    let (mut conf, mut all) = (String::new(), String::new());
    let mut links = Vec::new();
    for path in &paths {
        let Some(text) = inside::text(tree, path.as_str()) else { continue };
        all.push_str(text.trim_end());
        all.push('\n');
        let below = path.as_str().strip_prefix(FROM).unwrap_or_default().trim_start_matches('/');
        conf.push_str(&format!("{below}\n"));
        links.push((pem_name(path.name()), format!("/{}", path.as_str())));
    }
    if links.is_empty() {
        return;
    }
    let mut put = |path: &str, entry: Entry| {
        if let Some(path) = inside::place(tree, path, false) {
            tree.put(path, entry);
        }
    };
    for (name, target) in links {
        put(&format!("etc/ssl/certs/{name}"), Entry::symlink(&origin, target));
    }
    put("etc/ca-certificates.conf", Entry::file(&origin, 0o644, Content::bytes(conf.into_bytes())));
    put("etc/ssl/certs/ca-certificates.crt", Entry::file(&origin, 0o644, Content::bytes(all.into_bytes())));
    put("usr/lib/ssl/cert.pem", Entry::symlink(&origin, "/etc/ssl/certs/ca-certificates.crt"));
}

/// The name of a certificate's link: what a shell would trip over is replaced.
fn pem_name(name: &str) -> String {
    let stem = name.strip_suffix(".crt").unwrap_or(name);
    let stem: String = stem
        .chars()
        .map(|c| {
            if " ,".contains(c) {
                '_'
            } else if "()".contains(c) {
                '='
            } else {
                c
            }
        })
        .collect();
    format!("{stem}.pem")
}
