//! The report as JUnit XML, as CI systems read it (the common subset: `testsuites`, `testsuite`, `testcase`, `failure`, `skipped`).

use std::fmt::Write;

use super::report::{CheckResult, Outcome, Report};

/// Writes the report as JUnit XML; well-formed whatever stands in its texts.
pub fn junit(report: &Report) -> String {
    let failed = report.checks.iter().filter(|c| c.outcome == Outcome::Failed).count();
    let seconds: f64 = report.checks.iter().map(|c| c.seconds).sum();
    let skipped = report.checks.iter().filter(|c| c.outcome == Outcome::NotLookedAt).count();
    let counts = format!("tests=\"{}\" failures=\"{failed}\" errors=\"0\" time=\"{seconds:.3}\"", report.checks.len());
    let lab = escape(&report.lab);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing into a String can not fail.
    let _ = writeln!(out, "<testsuites name=\"labimg verify\" {counts}>");
    let _ = writeln!(out, "  <testsuite name=\"{lab}\" {counts} skipped=\"{skipped}\">");
    for check in &report.checks {
        case(&mut out, &report.lab, check);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn case(out: &mut String, lab: &str, check: &CheckResult) {
    let class = escape(&format!("{lab}.{}", check.kind));
    let name = escape(&check.name);
    let _ = writeln!(out, "    <testcase classname=\"{class}\" name=\"{name}\" time=\"{:.3}\">", check.seconds);
    if check.outcome == Outcome::Failed {
        let first = check.reasons.first().map(String::as_str).unwrap_or_default();
        let _ = writeln!(
            out,
            "      <failure type=\"{}\" message=\"{}\">{}</failure>",
            check.kind,
            escape(first),
            why(check)
        );
    }
    if check.outcome == Outcome::NotLookedAt {
        let _ = writeln!(out, "      <skipped message=\"{}\"/>", why(check));
    }
    if !check.detail.is_empty() {
        let _ = writeln!(out, "      <system-out>{}</system-out>", escape(&check.detail));
    }
    out.push_str("    </testcase>\n");
}

fn why(check: &CheckResult) -> String {
    let at = check.at.iter().map(|at| format!("asked for at {at}"));
    let chain = check.chain.iter().flat_map(|c| c.lines.iter().cloned());
    let lines: Vec<String> = check.reasons.iter().cloned().chain(chain).chain(at).collect();
    escape(&lines.join("\n"))
}

/// Text for an element or an attribute in quotes (XML 1.0 sections 2.2 and 2.4); characters that XML can not carry become `\u{FFFD}`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'.. => out.push(c),
            _ => out.push('\u{FFFD}'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn check(name: &str, outcome: Outcome, reasons: &[&str]) -> CheckResult {
        CheckResult {
            name: name.to_owned(),
            kind: "http",
            cluster: None,
            outcome,
            mismatch: false,
            seconds: 1.25,
            attempts: 1,
            detail: "200".to_owned(),
            reasons: reasons.iter().map(|r| (*r).to_owned()).collect(),
            chain: None,
            open: Vec::new(),
            at: Some("labimg/profile.toml:3:1".to_owned()),
        }
    }

    #[test]
    fn it_is_well_formed_whatever_stands_in_it() {
        let nasty = "a <b> & \"c\" 'd' ]]> \u{0}\u{1b}[31m\u{FFFF} \n\t ü 🥋";
        let checks = vec![check(nasty, Outcome::Failed, &[nasty, "second"]), check("fine", Outcome::Passed, &[])];
        let unseen = check("ssh", Outcome::NotLookedAt, &["no <way> in"]);
        let skipped = junit(&Report { lab: "l".to_owned(), checks: vec![unseen] });
        assert!(skipped.contains("failures=\"0\"") && skipped.contains("skipped=\"1\""), "{skipped}");
        assert!(skipped.contains("<skipped message=\"no &lt;way&gt; in&#10;asked for at "), "{skipped}");
        let text = junit(&Report { lab: nasty.to_owned(), checks });
        assert!(text.contains("tests=\"2\" failures=\"1\""), "{text}");
        // Python's parser is another's judgement.
        let script = "import sys,xml.etree.ElementTree as e; r=e.parse(sys.stdin.buffer).getroot(); \
                      print(len(r.findall('.//testcase')), r.find('.//testcase').get('name')[:13], r.find('.//failure').text.count('second'))";
        let python = Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut python) = python else { return };
        python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2 a <b> & \"c\" ' 1");
    }
}
