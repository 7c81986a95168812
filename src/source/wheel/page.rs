//! A project's page on an index: which files there are.
//!
//! Formats: "Simple repository API" (PyPA specifications: PEP 503 for HTML, PEP 691 for JSON, PEP 700 for sizes).

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::base::bounded;
use crate::base::digest::Digest;
use crate::base::null;

/// What to ask for.
pub const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";

/// The most files a page is believed to have.
const MOST_FILES: usize = 200_000;

/// A file of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFile {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: Url,
    /// Its digest, where the page says it.
    pub digest: Option<Digest>,
    /// Its size in bytes, where the page says it.
    pub size: Option<u64>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    meta: Value,
    // Must be there: else a list would pass for a page, field by field.
    #[serde(deserialize_with = "null::absent")]
    files: Vec<Value>,
}

/// The files of a page that came from `base`. Left out is what is no file: entries without a name or a URL, URLs that are neither
/// http nor https. The one that is wanted is missed by its name.
///
/// # Errors
/// What is wrong with the page.
pub fn read(content_type: &str, bytes: &[u8], base: &Url) -> Result<Vec<PageFile>, String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let files = match kind.as_str() {
        "application/vnd.pypi.simple.v1+json" | "application/json" => json(bytes, base)?,
        "application/vnd.pypi.simple.v1+html" | "text/html" | "" => html(&String::from_utf8_lossy(bytes), base),
        other => return Err(format!("it is `{other}`, neither HTML nor JSON")),
    };
    if files.len() > MOST_FILES { Err(format!("more than {MOST_FILES} files")) } else { Ok(files) }
}

fn json(bytes: &[u8], base: &Url) -> Result<Vec<PageFile>, String> {
    let page: Page = bounded::from_json(bytes).map_err(|e| e.to_string())?;
    let version = page.meta.get("api-version").and_then(Value::as_str);
    if let Some(version) = version.filter(|v| v.split('.').next() != Some("1")) {
        return Err(format!("version {version} of the API; labimg knows 1"));
    }
    let file = |file: &Value| {
        let text = |key: &str| file.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let url = join(base, text("url")?)?;
        let digest = file.pointer("/hashes/sha256").and_then(Value::as_str).and_then(sha256);
        Some(PageFile {
            name: text("filename")?.to_owned(),
            url,
            digest,
            size: file.get("size").and_then(Value::as_u64),
        })
    };
    Ok(page.files.iter().filter_map(file).collect())
}

/// A digest in hex, in either case.
fn sha256(hex: &str) -> Option<Digest> {
    Digest::from_hex(&hex.trim().to_ascii_lowercase()).ok()
}

/// Every anchor is a file; its name is the last part of its URL, its digest the fragment.
fn html(text: &str, base: &Url) -> Vec<PageFile> {
    let mut base = base.clone();
    let mut files = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        if let Some(comment) = tag.strip_prefix("!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end..]);
            continue;
        }
        let end = tag_end(tag);
        let (inside, after) = (&tag[..end], &tag[end..]);
        rest = after;
        let name = inside.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
        let Some(href) = ["a", "base"].iter().any(|n| name.eq_ignore_ascii_case(n)).then(|| href(inside)).flatten()
        else {
            continue;
        };
        let Some(url) = join(&base, &href) else { continue };
        if name.eq_ignore_ascii_case("base") {
            base = url;
        } else if let Some(file) = anchored(url) {
            files.push(file);
        }
    }
    files
}

fn anchored(mut url: Url) -> Option<PageFile> {
    // Beside the digest there may be `egg=…` and `subdirectory=…`.
    let digest =
        url.fragment().and_then(|f| f.split('&').find_map(|part| part.strip_prefix("sha256=")).and_then(sha256));
    url.set_fragment(None);
    let name = percent_decoded(url.path_segments()?.next_back()?);
    (!name.is_empty()).then_some(PageFile { name, url, digest, size: None })
}

/// Where a tag ends: the first `>` outside quotes.
fn tag_end(tag: &str) -> usize {
    let mut quote = None;
    for (at, c) in tag.char_indices() {
        match (quote, c) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    tag.len()
}

/// The value of the attribute `href`.
fn href(tag: &str) -> Option<String> {
    let lower = tag.to_ascii_lowercase();
    let starts = |at: usize| lower[..at].ends_with(|c: char| c.is_ascii_whitespace() || c == '"' || c == '\'');
    let at = lower
        .match_indices("href")
        .map(|(at, _)| at)
        .find(|at| starts(*at) && lower[at + "href".len()..].trim_start().starts_with('='))?;
    let value = tag[at + "href".len()..].trim_start().strip_prefix('=')?.trim_start();
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next()?,
        _ => value.split(|c: char| c.is_ascii_whitespace()).next()?,
    };
    Some(unescaped(value))
}

/// A text with its character references resolved: those by number, and those by name that occur in URLs.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let reference =
            from.find(';').filter(|end| *end <= 10).and_then(|end| Some((character(&from[1..end])?, end + 1)));
        let (shown, used) = reference.unwrap_or(('&', 1));
        out.push(shown);
        rest = &from[used..];
    }
    out + rest
}

/// What `#43`, `#x2B` or `amp` stands for.
fn character(name: &str) -> Option<char> {
    let named = [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("plus", '+'), ("num", '#')];
    let Some(number) = name.strip_prefix('#') else {
        return named.iter().find(|(known, _)| *known == name).map(|(_, shown)| *shown);
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    code.ok().and_then(char::from_u32)
}

fn join(base: &Url, href: &str) -> Option<Url> {
    base.join(href.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// `%2B` and the like as what they stand for.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.filter(|_| *byte == b'%').and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn base() -> Url {
        "https://h.example/simple/foo/".parse().unwrap()
    }

    #[test]
    fn html_pages_are_read() {
        let text = format!(
            "<!DOCTYPE html><html><!-- <a href='no-1-py3-none-any.whl'> --><body>\n\
             <a href=\"../../files/foo-1-py3-none-any.whl#sha256={HEX}\" data-requires-python=\"&gt;=3.8\">foo</a><br>\
             <A data-x='>' HREF='https://o.example/foo-1%2Bx-py3-none-any.whl?a=1&amp;b=2'>x</A>\
             <a href=foo-2.tar.gz>s</a><a href='ftp://o.example/foo-3.tar.gz'>f</a><a>none</a><a href='"
        );
        let files = read("text/html; charset=utf-8", text.as_bytes(), &base()).unwrap();
        let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["foo-1-py3-none-any.whl", "foo-1+x-py3-none-any.whl", "foo-2.tar.gz"]);
        assert_eq!(files[0].url.as_str(), "https://h.example/files/foo-1-py3-none-any.whl");
        assert_eq!(files[0].digest.unwrap().hex(), HEX);
        assert_eq!(files[1].url.query(), Some("a=1&b=2"));
    }

    #[test]
    fn a_base_element_moves_links() {
        let files = read("", b"<base href='https://b.example/x/'><a href='y.whl'>y</a>", &base()).unwrap();
        assert_eq!(files[0].url.as_str(), "https://b.example/x/y.whl");
    }

    #[test]
    fn json_pages_are_read() {
        let text = format!(
            r#"{{"meta":{{"api-version":"1.1"}},"name":"foo","files":[
               {{"filename":"foo-1-py3-none-any.whl","url":"/f/foo-1-py3-none-any.whl","hashes":{{"sha256":"{HEX}"}},"size":7}},
               {{"filename":"foo-1.zip","url":"javascript:x","hashes":{{}}}}]}}"#
        );
        let files = read("application/vnd.pypi.simple.v1+json", text.as_bytes(), &base()).unwrap();
        assert_eq!((files.len(), files[0].size, files[0].digest.unwrap().hex().as_str()), (1, Some(7), HEX));
        for (kind, text) in [
            ("application/json", r#"{"meta":{"api-version":"2.0"},"files":[]}"#),
            ("application/json", "[]"),
            ("application/json", "{"),
            ("image/png", ""),
        ] {
            assert!(read(kind, text.as_bytes(), &base()).is_err(), "{text}");
        }
    }

    #[test]
    fn odd_neighbours_are_passed_over() {
        let json = format!(
            r#"{{"meta":null,"files":[null,7,{{}},{{"filename":null,"url":"x"}},{{"filename":"a.whl","url":null}},
               {{"filename":"b.whl","url":"b.whl","hashes":null,"size":"many","yanked":null}},
               {{"filename":"c.whl","url":"c.whl","hashes":{{"sha256":"{}","md5":null}},"size":null}}]}}"#,
            HEX.to_uppercase()
        );
        let files = read("Application/JSON; charset=UTF-8", json.as_bytes(), &base()).unwrap();
        let short: Vec<_> = files.iter().map(|f| (f.name.as_str(), f.digest.is_some(), f.size)).collect();
        assert_eq!(short, [("b.whl", false, None), ("c.whl", true, None)]);
        let html = format!(
            "<a href='http://[bad/'>x</a><a href>y</a><a href=''>z</a><a name=top>t</a><a href='d&#46;whl#egg=d&amp;sha256={}'>d</a>\
             <a href='e.whl#sha256=short'>e</a><a href='mailto:x@y'>m</a><a href='f&#x2B;1.whl?a=1&b;c&#xzz;'>f</a>",
            HEX.to_uppercase()
        );
        let files = read("TEXT/HTML", html.as_bytes(), &base()).unwrap();
        let short: Vec<_> = files.iter().map(|f| (f.name.as_str(), f.digest.is_some())).collect();
        assert_eq!(short, [("d.whl", true), ("e.whl", false), ("f+1.whl", false)]);
        assert_eq!(files[2].url.query(), Some("a=1&b;c&"));
    }

    #[test]
    fn nothing_in_a_page_panics() {
        for text in
            ["<", "<a", "<a href", "<a href=", "<a href=\"", "<!--", "<é href=ü>", "<a hrefhref='é'>", "%", "%é"]
        {
            read("text/html", text.as_bytes(), &base()).unwrap();
            percent_decoded(text);
        }
    }
}
