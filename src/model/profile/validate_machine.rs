//! What types can not say about the machines that Vagrant makes of boxes: names, addresses, ports, sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Range;

use super::types::{Host, Profile, Reach};
use super::validate::{Findings, is_name};
use crate::model::source_map::Loc;

/// The least memory a machine starts with, in MiB: kernel and initial ramdisk unpacked.
const MEMORY: u32 = 256;

/// Hosts that Vagrant makes: of boxes there are, with addresses and ports of their own.
pub(super) fn machines(profile: &Profile, found: &mut Findings<'_>) {
    let boxes: BTreeSet<&str> = profile.boxes.iter().map(|b| b.name.as_str()).collect();
    for host in &profile.host {
        if host.reach != Reach::Vagrant {
            not_vagrant(host, found);
            continue;
        }
        match &host.box_name {
            Some(name) => found.must_exist(name, "box", &boxes),
            None => {
                let text = format!("host `{}` is reached by Vagrant: of which `box` is it?", *host.name);
                found.add(&host.name.span(), text);
            }
        }
        one(host, found);
    }
    addresses(profile, found);
    ports(profile, found);
}

/// Whether a machine can be called so (RFC 1123, section 2.1): labels of letters, digits and `-`, which stands at no end.
pub(super) fn is_hostname(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn one(host: &Host, found: &mut Findings<'_>) {
    // What is no name at all is told elsewhere.
    if is_name(&host.name) && !is_hostname(&host.name) {
        found.add(&host.name.span(), format!("`{}` can not be a machine's name", *host.name)).hint =
            Some("a machine is called by letters, digits, `-` and `.`".to_owned());
    }
    if let Some(memory) = host.memory.as_ref().filter(|m| ***m < MEMORY) {
        found.add(&memory.span(), format!("a machine with {} MiB does not start: give it {MEMORY} or more", **memory));
    }
    if let Some(cores) = host.cores.as_ref().filter(|c| ***c == 0) {
        found.add(&cores.span(), "a machine has 1 core or more");
    }
}

/// Addresses of one private network, each taken once, and none that is the network's own.
fn addresses(profile: &Profile, found: &mut Findings<'_>) {
    let mut taken: BTreeMap<Ipv4Addr, Range<usize>> = BTreeMap::new();
    let mut network: Option<([u8; 3], Range<usize>)> = None;
    for ip in profile.host.iter().filter(|h| h.reach == Reach::Vagrant).filter_map(|h| h.ip.as_ref()) {
        let Some(address) = ip.parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_private) else {
            found.add(&ip.span(), format!("`{}` is no private IPv4 address", **ip)).hint =
                Some("write it as 10.77.0.10".to_owned());
            continue;
        };
        let [a, b, c, last] = address.octets();
        if matches!(last, 0 | 1 | 255) {
            found
                .add(&ip.span(), format!("`{}` is no address for a machine: .0, .1 and .255 are the network's", **ip))
                .hint = Some(format!("write it as {a}.{b}.{c}.10"));
        }
        if let Some(first) = taken.insert(address, ip.span()) {
            found.clash(&ip.span(), &first, format!("address {} is taken twice", **ip));
        }
        let (of_first, first) = network.get_or_insert(([a, b, c], ip.span()));
        if *of_first != [a, b, c] {
            let [x, y, z] = *of_first;
            let message = format!("`{}` is not in the lab's private network, which is {x}.{y}.{z}.0/24", **ip);
            found.clash(&ip.span(), first, message);
        }
    }
}

/// Ports of the attendee's machine, each taken once, by clusters and machines.
fn ports(profile: &Profile, found: &mut Findings<'_>) {
    let mut taken: BTreeMap<u16, Range<usize>> = BTreeMap::new();
    for cluster in &profile.cluster {
        taken.extend(cluster.ports.iter().map(|p| (*p.host, p.host.span())));
    }
    let hosts = profile.host.iter().filter(|h| h.reach == Reach::Vagrant);
    for forward in hosts.flat_map(|h| &h.forward) {
        for port in [&forward.guest, &forward.local].into_iter().filter(|p| ***p == 0) {
            found.add(&port.span(), "port 0 is no port");
        }
        let local = &forward.local;
        if let Some(first) = taken.insert(**local, local.span()).filter(|_| **local != 0) {
            let text = format!("port {} of the attendee's machine is taken twice", **local);
            found.clash(&local.span(), &first, text);
        }
    }
}

fn not_vagrant(host: &Host, found: &mut Findings<'_>) {
    let spans = [
        host.box_name.as_ref().map(Loc::span),
        host.ip.as_ref().map(Loc::span),
        host.forward.first().map(|f| f.guest.span()),
    ];
    for span in spans.into_iter().flatten() {
        found.add(&span, "`box`, `ip` and `forward` go with `reach = \"vagrant\"`");
    }
}
