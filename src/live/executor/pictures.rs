//! Path of a request's picture from completion on: the picture is embedded, kept in the store, given to other requests,
//! and handed to the book.

use std::sync::Arc;

use super::{Answer, Live, Setting};
use crate::image::ImageId;
use crate::live::details::Details;
use crate::live::embedder::{Ask, EmbedError};
use crate::live::picture::Picture;
use crate::live::store::{Record, StoreError};
use crate::request::{Outcome, RequestId};

impl Live {
    /// Has the picture of a completed request embedded.
    pub(super) fn encode_image(&mut self, request: RequestId) {
        let state = self.requests.entry(request).or_default();
        state.encoding = true;
        self.in_flight += 1;
        let picture = state.picture.clone().ok_or(EmbedError::NoPicture);
        if let Err(error) = picture.and_then(|picture| self.ask(Ask::Picture(request, picture))) {
            let _ = self.to_answers.send(Answer::Picture { request, embedding: Err(error) });
        }
    }

    /// Puts the picture of an image into the store, with the embedding that the core finds the image by.
    pub(super) fn keep(&mut self, image: ImageId) {
        let Some(request) = image.request() else { return }; // The image was there before the run.
        let Some(state) = self.requests.get(&request) else { return };
        let (Some(picture), Some((work, origins))) = (&state.picture, &state.work) else { return };
        // Systems that find images by their prompts keep an image before its picture is embedded.
        let Some(key) = state.image.as_ref().or(state.prompt.as_ref()).cloned() else { return };
        let Setting { book, models, checkpoints, warn, .. } = &mut self.setting;
        let Some(prompt) = book.prompt(request) else { return };
        let details = book.details(request);
        let checkpoint = details.checkpoint_name(checkpoints).to_owned();
        let Details { negative_prompt, guidance, .. } = details;
        let record = |file| Record {
            file,
            prompt: prompt.to_string(),
            tenant: book.tenant(request),
            model: models[work.model.index()].clone(),
            seed: book.noise(request),
            steps: (work.total_steps, work.skipped_steps),
            checkpoint,
            negative_prompt,
            guidance,
            source: origins.first().copied(),
            origins: origins.clone(),
            key,
        };
        let kept = self.store.keep(image, picture.clone(), record);
        if !kept && !std::mem::replace(&mut self.full, true) {
            // The warning is given once: a disk that hangs is reported in every other place, too.
            warn("too much waits for the disk: pictures are not kept until it answers");
        }
        if let Some(number) = self.store.number(image) {
            book.kept(image, number);
        }
    }

    /// Gives a cached image to a request as it is.
    pub(super) fn give_back(&mut self, request: RequestId, image: ImageId) {
        if let Some(file) = self.setting.book.result(request) {
            self.store.copy_result(image, file);
        }
        if self.setting.book.wants_pictures() {
            self.requests.entry(request).or_default().reading = true;
            self.in_flight += 1;
            let answers = self.to_answers.clone();
            // Read here, a slow disk or a large picture would hold up every other request.
            self.store.read_later(image, move |picture| {
                let _ = answers.send(Answer::Read { request, picture });
            });
        }
    }

    /// Ends a request that waited for its cached picture.
    pub(super) fn given_back(&mut self, request: RequestId, picture: Result<Arc<Picture>, StoreError>) {
        let picture =
            picture.inspect_err(|why| self.warn(&format!("an image that is given back cannot be read: {why}")));
        let Some(state) = self.requests.get_mut(&request) else { return };
        (state.reading, state.picture) = (false, picture.ok());
        if let Some(outcome) = state.outcome.take() {
            self.finished(request, &outcome);
        }
    }

    /// Ends a request: its picture is written to the results and handed to the book. A request whose cached picture is
    /// being read ends once the picture is there.
    pub(super) fn finished(&mut self, request: RequestId, outcome: &Outcome) {
        let state = self.requests.entry(request).or_default();
        if state.reading {
            state.outcome = Some(outcome.clone());
            return;
        }
        state.finished = true;
        let picture = state.picture.clone().filter(|_| *outcome == Outcome::Completed);
        if let Some((file, picture)) = self.setting.book.result(request).zip(picture.clone()) {
            self.store.write_result(file, picture);
        }
        self.setting.book.ended(request, outcome, picture);
        self.settled.push(request);
    }

    /// Forgets requests that the core has nothing more to say about.
    pub(super) fn forget_settled(&mut self) {
        for request in std::mem::take(&mut self.settled) {
            // The order to keep an image may follow the embedding of its picture, so that a request is not forgotten
            // before it.
            if self.requests.get(&request).is_some_and(|state| state.finished && !state.encoding) {
                self.requests.remove(&request);
                self.setting.book.forget(request);
            }
        }
    }
}
