//! Images in the engine: whether one is there, and putting it there out of a bundle.

use std::io::{self, Write};
use std::sync::Arc;

use bollard::errors::Error;
use bollard::query_parameters::{ImportImageOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::connect::{Docker, is_missing};
use crate::base::digest::Digest;
use crate::base::report::Reporter;
use crate::build::export::{ExportError, Format, Selection, export};
use crate::lab::error::LabError;
use crate::lab::session::Session;
use crate::model::image::ImageRef;
use crate::model::lock::LockedImage;
use crate::model::platform::Platform;
use crate::store::bundle::Bundle;
use crate::store::image::image_parts;

/// Bytes handed to the engine at once.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for the engine.
const AHEAD: usize = 8;
/// Time limit of a load.
const LOAD: std::time::Duration = std::time::Duration::from_secs(3600);

/// What had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It was there already.
    WasThere,
    /// Nothing was under that name.
    New,
    /// Another image was under that name; it has lost the name.
    Replaced,
}

impl Docker {
    /// The engine's id of what stands under a name, with its digests by repository; `None` where nothing does.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn image(&self, name: &str) -> Result<Option<String>, LabError> {
        match self.api.inspect_image(name).await {
            Ok(found) => Ok(Some(found.id.unwrap_or_default())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed(&format!("look at image `{name}`"), &error)),
        }
    }

    /// Takes a name off an image, and the image with its last name. One that is used or not there stays as it is.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn remove_image(&self, name: &str) -> Result<bool, LabError> {
        match self.api.remove_image(name, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(true),
            Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(false),
            Err(error) => Err(self.failed(&format!("remove image `{name}`"), &error)),
        }
    }

    /// Sees to it that the bundle's image stands under its name in the engine, and says what had to be done.
    ///
    /// # Errors
    /// An image that the bundle does not hold for the engine's platform, damaged bytes, an engine that refuses it.
    pub async fn ensure_image(
        &self,
        session: &Session,
        name: &ImageRef,
        platform: Platform,
    ) -> Result<Loaded, LabError> {
        let image = bundled(&session.bundle, name)?;
        let tagged = tagged(&image.reference)?;
        let before = self.image(&tagged).await?;
        if before.as_ref().is_some_and(|id| ids(&session.bundle, &image, platform).contains(id)) {
            return Ok(Loaded::WasThere);
        }
        if let Some(id) = &before {
            let id = id.chars().take(19).collect::<String>();
            session
                .reporter
                .warn(&format!("`{tagged}` in the engine was another image ({id}…): the bundle's replaces it"));
        }
        self.load(session, image.reference.clone(), platform).await?;
        if self.image(&tagged).await?.is_none() {
            let why = "it took the archive, but knows no image of that name now";
            return Err(LabError::failed(format!("docker: load image `{tagged}`"), why));
        }
        Ok(if before.is_some() { Loaded::Replaced } else { Loaded::New })
    }

    async fn load(&self, session: &Session, name: ImageRef, platform: Platform) -> Result<(), LabError> {
        let what = format!("load image `{}`", name.tagged());
        let (sender, receiver) = mpsc::channel::<Result<Bytes, io::Error>>(AHEAD);
        let (bundle, reporter) = (Arc::clone(&session.bundle), Arc::clone(&session.reporter));
        let writer = tokio::task::spawn_blocking(move || archive(&bundle, name, platform, &*reporter, sender));
        let body = stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|c| (c, receiver)) });
        let api = self.api.clone().with_timeout(LOAD);
        let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
        let mut answers = Box::pin(api.import_image_stream(options, body, None));
        let mut refused = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(told) => refused = told.error_detail.and_then(|e| e.message).or(refused),
                Err(error) => refused = Some(self.failed(&what, &error).to_string()),
            }
        }
        drop(answers);
        // The archive's own error is the reason, where there is one: the engine only saw the stream end.
        match (writer.await.map_err(LabError::internal)?, refused) {
            (Err(ExportError::Write(_)) | Ok(()), Some(why)) => Err(LabError::failed(format!("docker: {what}"), why)
                .hint("is there room where Docker keeps images? `docker system df`, `df -h`")),
            (Err(ExportError::Store(error)), _) => Err(LabError::mismatch(format!("docker: {what}"), error)),
            (Err(error), _) => Err(LabError::failed(format!("docker: {what}"), error)),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Writes the archive into the channel; ends early when nobody listens.
fn archive(
    bundle: &Bundle,
    name: ImageRef,
    platform: Platform,
    reporter: &dyn Reporter,
    sender: mpsc::Sender<Result<Bytes, io::Error>>,
) -> Result<(), ExportError> {
    let selection = Selection { format: Format::Docker, platform: Some(platform), images: vec![name] };
    let mut out = io::BufWriter::with_capacity(CHUNK, Chunks(sender.clone()));
    let done = export(bundle, &bundle.images(), bundle.index().epoch, &selection, &mut out, reporter).map(drop);
    let done = done.and_then(|()| out.flush().map_err(ExportError::Write));
    if let Err(error) = &done {
        // The stream must not end as if it were whole.
        let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
    }
    done
}

struct Chunks(mpsc::Sender<Result<Bytes, io::Error>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine stopped listening");
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bundle's image of that name, with or without the digest that was pinned.
///
/// # Errors
/// No such image.
pub fn bundled(bundle: &Bundle, name: &ImageRef) -> Result<LockedImage, LabError> {
    let is = |image: &LockedImage| image.reference == *name || image.reference.tagged() == name.tagged();
    bundle.images().into_iter().find(is).ok_or_else(|| {
        LabError::failed(format!("image `{name}`"), "the bundle does not hold it")
            .hint("name it in an `[[image]]` of the profile, then `labimg lock` and `labimg build`")
    })
}

/// The name an image has in the engine: a digest alone can not survive `docker load`.
///
/// # Errors
/// A name without a tag.
pub fn tagged(name: &ImageRef) -> Result<String, LabError> {
    match &name.tag {
        Some(_) => Ok(name.tagged()),
        None => Err(LabError::failed(format!("image `{name}`"), "an engine loads images by tag, and it has none")
            .hint("write it with its tag: `NAME:TAG@sha256:…`")),
    }
}

/// What an engine may call the image: its configuration's digest, or, with containerd's image store, a manifest's.
fn ids(bundle: &Bundle, image: &LockedImage, platform: Platform) -> Vec<String> {
    let manifest = image.platforms.get(&platform);
    let parts = manifest.and_then(|m| image_parts(bundle, m).ok());
    let digests: Vec<Digest> =
        parts.iter().flat_map(|p| [p.config.digest, p.manifest.digest]).chain([image.digest]).collect();
    digests.iter().map(ToString::to_string).collect()
}
