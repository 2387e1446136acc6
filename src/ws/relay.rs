//! Wakes that come from other threads, gathered.
//!
//! A batch of the log answers many sockets at once, and a publication fills many mailboxes. Each of these wakes,
//! from another thread, would be a write to the worker's eventfd and, while the worker sleeps, a switch of
//! threads, so that it runs once for each of them. Here the first one wakes the worker, and it finds the others
//! when it runs. Wakes of the worker's own thread go straight to the task.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

thread_local! {
    /// Its address tells threads apart.
    static HERE: u8 = const { 0 };
    /// The worker's own, once a task of its was relayed.
    static INBOX: RefCell<Option<Arc<Inbox>>> = const { RefCell::new(None) };
}

/// Runs `future` on this worker, with its wakes from other threads gathered.
pub fn relayed<F: Future>(future: F) -> Relayed<F> {
    let inbox = INBOX.with_borrow_mut(|inbox| {
        // One runtime after another may run on a thread.
        inbox.take_if(|inbox| inbox.has_ended.load(Ordering::Relaxed));
        Arc::clone(inbox.get_or_insert_with(Inbox::start))
    });
    let bell =
        Arc::new(Bell { thread: here(), inbox, is_queued: AtomicBool::new(false), task: AtomicWaker::new() });
    Relayed { waker: Waker::from(Arc::clone(&bell)), bell, future: Box::pin(future) }
}

/// See [`relayed`].
pub struct Relayed<F> {
    waker: Waker,
    bell: Arc<Bell>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Relayed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.bell.task.register(cx.waker());
        let Self { waker, future, .. } = &mut *self;
        future.as_mut().poll(&mut Context::from_waker(waker))
    }
}

/// What wakes one task.
struct Bell {
    thread: usize,
    inbox: Arc<Inbox>,
    /// It lies in the inbox already.
    is_queued: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.thread == here() {
            self.task.wake();
        } else if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.inbox.put(Arc::clone(self));
        }
    }
}

/// The tasks of one worker that others have woken.
#[derive(Default)]
struct Inbox {
    bells: Mutex<Vec<Arc<Bell>>>,
    worker: AtomicWaker,
    /// Its task was dropped, with the runtime.
    has_ended: AtomicBool,
}

/// The end of an inbox's task, however it comes.
struct Ended(Arc<Inbox>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Relaxed);
    }
}

impl Inbox {
    /// An inbox, and the task of this worker that empties it.
    fn start() -> Arc<Self> {
        let inbox = Arc::new(Self::default());
        actix_web::rt::spawn(ring(Ended(Arc::clone(&inbox))));
        inbox
    }

    fn put(&self, bell: Arc<Bell>) {
        let is_first = {
            let mut bells = self.lock();
            bells.push(bell);
            bells.len() == 1
        };
        if is_first {
            self.worker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Bell>>> {
        // Nothing panics while it is held.
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes whom others want woken, for as long as the worker runs.
async fn ring(ended: Ended) {
    let (inbox, mut bells) = (&ended.0, Vec::new());
    loop {
        poll_fn(|cx| {
            // Registered before it looks: what comes after the look wakes.
            inbox.worker.register(cx.waker());
            std::mem::swap(&mut bells, &mut *inbox.lock());
            if bells.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        for bell in bells.drain(..) {
            // Before the task runs: what comes while it runs wakes it again.
            bell.is_queued.store(false, Ordering::Release);
            bell.task.wake();
        }
    }
}

fn here() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// A worker like actix's: one thread, one runtime, tasks that stay there.
    fn on_a_worker(test: impl Future<Output = ()>) {
        let system = actix_web::rt::System::new();
        system.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() });
    }

    #[test]
    fn wakes_of_other_threads_and_of_the_own_one_arrive() {
        on_a_worker(async {
            let mut tasks = Vec::new();
            let (from_there, mut here): (Vec<_>, Vec<_>) = (0..200).map(|_| mpsc::channel::<u32>(1)).unzip();
            let (from_here, answers): (Vec<_>, Vec<_>) = (0..200).map(|_| oneshot::channel::<u32>()).unzip();
            for (mut messages, answer) in here.drain(..).zip(answers) {
                tasks.push(actix_web::rt::spawn(relayed(async move {
                    let mut sum = 0;
                    while let Some(number) = messages.recv().await {
                        sum += number;
                    }
                    sum + answer.await.unwrap()
                })));
            }
            let thread = std::thread::spawn(move || {
                for number in 1..=100 {
                    from_there.iter().for_each(|sender| sender.blocking_send(number).unwrap());
                }
            });
            for sender in from_here {
                sender.send(7).unwrap();
                tokio::task::yield_now().await;
            }
            for task in tasks {
                assert_eq!(task.await.unwrap(), 5_050 + 7);
            }
            thread.join().unwrap();
        });
    }

    #[test]
    fn a_wake_while_the_task_runs_runs_it_again() {
        on_a_worker(async {
            let (mut polls, mut thread) = (0, None);
            relayed(poll_fn(|cx| {
                polls += 1;
                if polls == 1 {
                    let waker = cx.waker().clone();
                    // Woken from elsewhere before this poll has ended.
                    std::thread::spawn(move || waker.wake()).join().unwrap();
                    return Poll::Pending;
                }
                if polls == 2 {
                    let waker = cx.waker().clone();
                    thread = Some(std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_millis(5));
                        waker.wake();
                    }));
                    return Poll::Pending;
                }
                Poll::Ready(())
            }))
            .await;
            assert_eq!(polls, 3);
            thread.unwrap().join().unwrap();
        });
    }
}
