//! A stream that is written as one asynchronous step after the other. Knows nothing of what is streamed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

/// What a stream is made of.
pub trait Steps: Send + 'static {
    /// One answer.
    type Answer: Send + 'static;

    /// The next answer; none at the end. After an error no step is taken.
    fn step(&mut self) -> impl Future<Output = Option<Result<Self::Answer, Status>>> + Send;
}

type Step<S> = dyn Future<Output = (S, Option<Result<<S as Steps>::Answer, Status>>)> + Send;

/// The stream. Takes a step only when it is asked for, and forgets a step that nobody waits for.
pub struct Stepping<S: Steps>(Option<Pin<Box<Step<S>>>>);

impl<S: Steps> Stepping<S> {
    /// A stream that begins so.
    pub fn new(steps: S) -> Self {
        Stepping(Some(Box::pin(take(steps))))
    }
}

async fn take<S: Steps>(mut steps: S) -> (S, Option<Result<S::Answer, Status>>) {
    let answer = steps.step().await;
    (steps, answer)
}

impl<S: Steps> Stream for Stepping<S> {
    type Item = Result<S::Answer, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(step) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let Poll::Ready((steps, answer)) = step.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.0 = match &answer {
            Some(Ok(_)) => Some(Box::pin(take(steps))),
            Some(Err(_)) | None => None,
        };
        Poll::Ready(answer)
    }
}
