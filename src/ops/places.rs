//! Where a profile names an input: the file, line and column that a failure on the network is told with.

use std::ops::Range;

use super::profile::OnDisk;
use crate::model::image::ImageRef;
use crate::model::lock::wheel_set;
use crate::model::platform::Platform;
use crate::model::profile::Profile;
use crate::model::source_map::{Loc, Location, SourceMap};

/// What of an input a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Where it is: its reference, URL or repository.
    Source,
    /// Its version.
    Version,
    /// What its bytes must be.
    Digest,
    /// The member of an archive.
    Member,
    /// One name of a list: a package, a requirement.
    Name(&'a str),
}

/// A place, and the map that knows it.
type Found<'a> = (&'a SourceMap, Range<usize>);

/// Where the profile, or an `image.toml` of it, names the `part` of the input called `input`, as a lock calls it; the input
/// itself where that part is not written. `None` for what nobody wrote.
pub(super) fn of(disk: &OnDisk, input: &str, part: Part<'_>) -> Option<Location> {
    let (map, span) = found(disk, input, part)?;
    map.locate(&span)
}

fn found<'a>(disk: &'a OnDisk, input: &str, part: Part<'_>) -> Option<Found<'a>> {
    let (kind, name) = input.split_once(' ')?;
    let profile = &disk.profile;
    let span = match kind {
        "image" => image(profile, &name.parse().ok()?),
        "chart" => chart(profile, name, part),
        "tool" | "manifest" | "file" => file(profile, kind, name, part),
        "debian" => return debian(disk, name, part),
        "wheels" => wheels(profile, name, part),
        _ => None,
    }?;
    Some((&disk.sources, span))
}

/// Where a pulled image is named: in `[[image]]`, or by a cluster.
fn image(profile: &Profile, reference: &ImageRef) -> Option<Range<usize>> {
    let listed = profile.image.iter().filter(|i| i.build.is_none()).map(|i| &i.reference);
    let nodes = profile.cluster.iter().filter_map(|c| c.node_image.as_ref());
    let registries = profile.cluster.iter().filter_map(|c| c.registry.as_ref()?.image.as_ref());
    let mut all = listed.chain(nodes).chain(registries);
    all.find(|place| ***place == *reference).map(Loc::span)
}

/// Whether a pulled image is written without tag and digest, so that `latest` is asked for unsaid.
pub(super) fn is_untagged(disk: &OnDisk, reference: &ImageRef) -> bool {
    let written = || {
        let span = image(&disk.profile, reference)?;
        let file = disk.sources.file_at(span.start)?;
        file.text.get(span.start - file.base..span.end - file.base)
    };
    let implied = reference.digest.is_none() && reference.tag.as_deref() == Some("latest");
    implied && written().is_some_and(|text| !text.contains("latest"))
}

fn chart(profile: &Profile, name: &str, part: Part<'_>) -> Option<Range<usize>> {
    let chart = profile.chart.iter().find(|c| *c.name == name)?;
    Some(match part {
        Part::Version => chart.version.span(),
        Part::Digest => chart.sha256.as_ref().map_or_else(|| chart.version.span(), Loc::span),
        _ => chart.repo.span(),
    })
}

fn file(profile: &Profile, kind: &str, name: &str, part: Part<'_>) -> Option<Range<usize>> {
    let (name, platform) = parted(name);
    match kind {
        "tool" => {
            let tool = profile.tool.get(name)?;
            let digest = platform.and_then(|p| tool.sha256.get(&p)).map(Loc::span);
            Some(chosen(part, digest, tool.member.as_ref()).unwrap_or_else(|| tool.url.span()))
        }
        "manifest" => {
            let manifest = profile.manifest.iter().find(|m| *m.name == name)?;
            let digest = manifest.sha256.as_ref().map(Loc::span);
            chosen(part, digest, None).or_else(|| Some(manifest.url.as_ref()?.span()))
        }
        _ => {
            let is =
                |f: &crate::model::profile::FileInput| *f.name == name && f.platform.as_ref().map(|p| **p) == platform;
            let file = profile.file.iter().find(|f| is(f))?;
            let digest = file.sha256.as_ref().map(Loc::span);
            chosen(part, digest, file.member.as_ref()).or_else(|| Some(file.url.as_ref()?.span()))
        }
    }
}

fn chosen(part: Part<'_>, digest: Option<Range<usize>>, member: Option<&Loc<String>>) -> Option<Range<usize>> {
    match part {
        Part::Digest => digest,
        Part::Member => member.map(Loc::span),
        _ => None,
    }
}

/// `kind (linux/amd64)` as name and platform.
fn parted(name: &str) -> (&str, Option<Platform>) {
    let inside = |(plain, rest): (&'_ str, &'_ str)| rest.strip_suffix(')')?.parse().ok().map(|p| (plain.len(), p));
    match name.rsplit_once(" (").and_then(inside) {
        Some((len, platform)) => (&name[..len], Some(platform)),
        None => (name, None),
    }
}

/// A package where somebody wrote its name for a machine or image of that table; else the table.
fn debian<'a>(disk: &'a OnDisk, table: &str, part: Part<'_>) -> Option<Found<'a>> {
    let profile = &disk.profile;
    let here = |span| (&disk.sources, span);
    let is = |debian: Option<&Loc<String>>| debian.is_some_and(|d| **d == table);
    if let Part::Name(package) = part {
        let tools = profile.toolchain.iter().filter(|t| is(Some(&t.debian))).flat_map(|t| &t.packages);
        let boxes = profile.boxes.iter().filter(|b| is(b.debian.as_ref())).flat_map(|b| &b.packages);
        let mut all = tools.chain(boxes);
        if let Some(place) = all.find(|p| ***p == package) {
            return Some(here(place.span()));
        }
        for def in disk.defs.values().filter(|d| is(d.def.debian.as_ref())) {
            if let Some(place) = def.def.packages.iter().find(|p| ***p == package) {
                return Some((&def.sources, place.span()));
            }
        }
    }
    if let Some(span) = header(&disk.sources, table) {
        return Some(here(span));
    }
    let tools = profile.toolchain.iter().map(|t| &t.debian);
    let boxes = profile.boxes.iter().filter_map(|b| b.debian.as_ref());
    let used = tools.chain(boxes).find(|d| ***d == table).map(|place| here(place.span()));
    let in_defs =
        || disk.defs.values().find_map(|d| Some((&d.sources, d.def.debian.as_ref().filter(|n| ***n == table)?.span())));
    used.or_else(in_defs)
}

/// The line `[debian.NAME]`: such a table may be empty, and then no value of it has a place.
fn header(sources: &SourceMap, table: &str) -> Option<Range<usize>> {
    let headers = [format!("[debian.{table}]"), format!("[debian.\"{table}\"]")];
    sources.files().iter().find_map(|file| {
        let mut at = 0;
        for line in file.text.split_inclusive('\n') {
            let text = line.trim_start();
            if let Some(header) = headers.iter().find(|h| text.starts_with(h.as_str())) {
                let start = file.base + at + (line.len() - text.len());
                return Some(start..start + header.len());
            }
            at += line.len();
        }
        None
    })
}

fn wheels(profile: &Profile, set: &str, part: Part<'_>) -> Option<Range<usize>> {
    let (name, _) = parted(set);
    let same = |table: &crate::model::profile::WheelSet| parted(set).1.is_none_or(|p| wheel_set(&table.name, p) == set);
    let table = profile.wheel.iter().find(|w| *w.name == name && same(w))?;
    let wanted = match part {
        Part::Name(name) => name,
        _ => return Some(table.name.span()),
    };
    let plain = |text: &str| -> String {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(text.len());
        crate::model::wheel::normalized(&text[..end])
    };
    let place = table.requirements.iter().find(|r| ***r == wanted);
    let place = place.or_else(|| table.requirements.iter().find(|r| plain(r) == plain(wanted)));
    Some(place.unwrap_or(&table.name).span())
}
