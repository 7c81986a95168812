//! Whether two spellings are one version of a Python project ("Version specifiers", PyPA specifications: PEP 440).
//!
//! Only equality is asked for here: pip orders versions. `2021.07.21` is `2021.7.21`, `1.0` is `1.0.0`, `1.0.RC-1` is `1.0rc1`.

/// Whether `a` and `b` are one version. File names have `_` where a version has `-`; texts that are no versions (older projects have
/// such) are compared without regard to case and to what separates their parts.
pub fn same_version(a: &str, b: &str) -> bool {
    match (canonical(a), canonical(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => plain(a) == plain(b),
        _ => false,
    }
}

fn plain(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace(['-', '_'], ".")
}

/// The one spelling of a version, without zeros at its end; nothing where the text is none.
fn canonical(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase().replace('_', "-");
    let (public, local) = lower.split_once('+').map_or((lower.as_str(), None), |(public, local)| (public, Some(local)));
    let mut rest = public.strip_prefix('v').unwrap_or(public);
    let mut out = String::new();
    if let Some((epoch, release)) = rest.split_once('!') {
        let epoch = number(epoch)?;
        if epoch != "0" {
            out = format!("{epoch}!");
        }
        rest = release;
    }
    let (release, after) = release(rest)?;
    out += &release;
    rest = after;
    let pre = [
        ("alpha", "a"),
        ("beta", "b"),
        ("preview", "rc"),
        ("pre", "rc"),
        ("rc", "rc"),
        ("a", "a"),
        ("b", "b"),
        ("c", "rc"),
    ];
    part(&mut rest, &pre, &mut out);
    let digits = rest.strip_prefix('-').filter(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    match digits {
        // A number alone is a post-release.
        Some(digits) => rest = numbered(digits, "post", &mut out),
        None => part(&mut rest, &[("post", "post"), ("rev", "post"), ("r", "post")], &mut out),
    }
    part(&mut rest, &[("dev", "dev")], &mut out);
    if let Some(local) = local {
        out += &format!("+{}", labels(local)?);
    }
    rest.is_empty().then_some(out)
}

/// The release's numbers, zeros at the end left out, and what follows them.
fn release(text: &str) -> Option<(String, &str)> {
    let mut numbers = Vec::new();
    let mut rest = text;
    loop {
        let (digits, after) = digits(rest);
        numbers.push(number(digits)?);
        match after.strip_prefix('.').filter(|r| r.starts_with(|c: char| c.is_ascii_digit())) {
            Some(next) => rest = next,
            None => {
                rest = after;
                break;
            }
        }
    }
    while numbers.len() > 1 && numbers.last().is_some_and(|n| *n == "0") {
        numbers.pop();
    }
    Some((numbers.join("."), rest))
}

/// Takes `[.-]name[.-][number]` off the front, where one of the names is there; writes what it is called.
fn part(rest: &mut &str, names: &[(&str, &str)], out: &mut String) {
    let bare = rest.strip_prefix(['.', '-']).unwrap_or(rest);
    let found = names.iter().find_map(|(name, short)| bare.strip_prefix(name).map(|after| (after, short)));
    let Some((after, short)) = found else { return };
    let separated = after.strip_prefix(['.', '-']).filter(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    *rest = numbered(separated.unwrap_or(after), short, out);
}

/// Writes a name and the number at the front of `text`, 0 where there is none; gives what follows it.
fn numbered<'a>(text: &'a str, name: &str, out: &mut String) -> &'a str {
    let (digits, after) = digits(text);
    *out += &format!(".{name}{}", number(digits).unwrap_or("0"));
    after
}

fn labels(local: &str) -> Option<String> {
    let one = |label: &str| {
        let right = !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric());
        right.then(|| number(label).unwrap_or(label).to_owned())
    };
    local.split(['.', '-']).map(one).collect::<Option<Vec<_>>>().map(|labels| labels.join("."))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A number without zeros before it; numbers have no limit.
fn number(text: &str) -> Option<&str> {
    let right = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let bare = text.trim_start_matches('0');
    right.then_some(if bare.is_empty() { "0" } else { bare })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_version_are_equal() {
        for (a, b) in [
            ("2021.07.21", "2021.7.21"),
            ("1.0", "1.0.0"),
            ("1", "1.0.0.0"),
            ("0", "0.0"),
            ("1.0rc1", "1.0.rc1"),
            ("1.0c1", "1.0-RC.01"),
            ("1.0pre", "1.0rc0"),
            ("1.0preview2", "1.0rc2"),
            ("1.0alpha1", "1.0a1"),
            ("1.0.beta", "1.0b0"),
            ("v1.0", "1.0"),
            (" 1.0\n", "1.0"),
            ("0!1.0", "1.0"),
            ("1.0-1", "1.0.post1"),
            ("1.0_1", "1.0-1"),
            ("1.0-r4", "1.0.post4"),
            ("1.0.rev", "1.0post0"),
            ("1.0-dev", "1.dev0"),
            ("1.0a1.post2.dev3", "1.0-alpha-1-post-2-dev-3"),
            ("1.0+ab_1", "1.0.0+AB.1"),
            ("1.0+007", "1.0+7"),
            ("99999999999999999999999.0", "99999999999999999999999"),
            ("2004d", "2004D"),
            ("0.1-custom_x", "0.1.custom.x"),
        ] {
            assert!(same_version(a, b) && same_version(b, a), "{a} {b}: {:?} {:?}", canonical(a), canonical(b));
        }
    }

    #[test]
    fn other_versions_differ() {
        for (a, b) in [
            ("1.0", "1.1"),
            ("1.0", "10"),
            ("1.0.1", "1.1"),
            ("1!1.0", "1.0"),
            ("1.0", "1.0rc0"),
            ("1.0", "1.0.post0"),
            ("1.0", "1.0.dev0"),
            ("1.0a1", "1.0b1"),
            ("1.0rc1", "1.0rc10"),
            ("1.0+a", "1.0"),
            ("1.0+a.1", "1.0+a1"),
            ("1.0.post1", "1.0rc1"),
            ("1.0", "1.0x"),
            ("", "0"),
        ] {
            assert!(!same_version(a, b), "{a} {b}: {:?} {:?}", canonical(a), canonical(b));
        }
        for text in ["", "v", "1.", "1..0", "1.0+", "1.0+a..b", "1.0x", "a1", "1.0 rc1", "!1", "1.0-"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_equals_itself(text in "[v0-2a-c!.+_rcpostdev-]{0,12}|.{0,8}") {
            proptest::prop_assert!(same_version(&text, &text));
        }
    }
}
