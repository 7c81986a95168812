//! A file on the indexes, and a project's pages.

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use url::Url;

use super::config::{Index, Indexes, user_info};
use super::page::{self, PageFile};
use super::{Found, WheelError};
use crate::model::url_policy::shown;
use crate::source::http::{get_small, same_origin};
use crate::source::{ErrorKind, SourceError};

/// The most bytes of a page: the longest one known has about 30 MB.
const MOST_PAGE: u64 = 64 << 20;

/// Where `file` of `project` is: the first index that has it.
pub async fn file(indexes: &Indexes, project: &str, file: &str) -> Result<Found, SourceError> {
    let mut failed = None;
    for index in indexes.all() {
        match page(indexes, index, project).await {
            Ok(Some(page)) => {
                let Page { files, own } = page;
                if let Some(entry) = files.into_iter().find(|f| f.name == file) {
                    return Ok(found(index, entry, own)?);
                }
            }
            Ok(None) => {}
            Err(error) if error.ask_another() => failed = Some(failed.unwrap_or(error)),
            Err(error) => return Err(error),
        }
    }
    // An index that could not be asked may well have it.
    if let Some(error) = failed {
        return Err(error);
    }
    let pages: Vec<String> = indexes.all().iter().map(|index| shown(page_url(index, project).as_str())).collect();
    Err(WheelError::Gone { file: file.to_owned(), project: project.to_owned(), asked: pages.join(" and ") }.into())
}

/// All files of a project on all indexes; `None` where no index has it.
pub async fn files(indexes: &Indexes, project: &str) -> Result<Option<Vec<PageFile>>, SourceError> {
    let mut all: Option<Vec<PageFile>> = None;
    for index in indexes.all() {
        if let Some(page) = page(indexes, index, project).await? {
            all.get_or_insert_default().extend(page.files);
        }
    }
    Ok(all)
}

/// A project's page as an index gave it.
struct Page {
    files: Vec<PageFile>,
    /// Whether it is the index's own word, and no redirect led elsewhere.
    own: bool,
}

/// `project`'s page; `None` where the index does not have it.
async fn page(indexes: &Indexes, index: &Index, project: &str) -> Result<Option<Page>, SourceError> {
    let url = page_url(index, project);
    let answer = match get_small(indexes.net(), &url, Some(page::ACCEPT), MOST_PAGE, index.auth.as_ref()).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let bad = |why| SourceError::Answer { url: shown(url.as_str()), what: "page of a project", why };
    let files = page::read(kind, &answer.bytes, &answer.url).map_err(bad)?;
    Ok(Some(Page { files, own: answer.own }))
}

fn page_url(index: &Index, project: &str) -> Url {
    let mut url = index.url.clone();
    url.set_path(&format!("{}{project}/", index.url.path()));
    url
}

/// An entry as it can be asked for: the index's credential goes to the index's own origin only, and only for what its `own`
/// page names.
fn found(index: &Index, entry: PageFile, own_page: bool) -> Result<Found, WheelError> {
    let mut url = entry.url;
    let own: Option<HeaderValue> = user_info(&mut url)?;
    let auth = own.or_else(|| index.auth.clone().filter(|_| own_page && same_origin(&url, &index.url)));
    Ok(Found { url, digest: entry.digest, size: entry.size, auth })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_an_index_goes_to_its_origin_for_what_its_own_page_names() {
        let index = Index::parse("https://me:hunter2@idx.example/simple").unwrap();
        let sent = |url: &str, own: bool| {
            let entry = PageFile { name: "x.whl".into(), url: url.parse().unwrap(), digest: None, size: None };
            let found = found(&index, entry, own).unwrap();
            assert!(!found.url.as_str().contains("hunter2"));
            found.auth.is_some_and(|auth| Some(auth) == index.auth)
        };
        assert!(sent("https://idx.example/files/x.whl", true));
        assert!(sent("https://idx.example:443/files/x.whl", true));
        assert!(
            !sent("https://idx.example/files/x.whl", false),
            "a page that a redirect brought names no secret places"
        );
        for other in ["http://idx.example/x.whl", "https://idx.example:8443/x.whl", "https://cdn.example/x.whl"] {
            assert!(!sent(other, true), "{other}");
        }
    }
}
