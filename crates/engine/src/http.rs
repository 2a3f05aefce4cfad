//! HTTP for trackers and torrent files: reqwest on one small thread of its own.

use std::io;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use reqwest::redirect::Policy;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Why a document could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The address is no http or https URL.
    #[error("not an http or https address")]
    BadUrl,
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The server did not answer in time.
    #[error("no answer in time")]
    Silent,
    /// The server refused.
    #[error("the server answered {0}")]
    Status(u16),
    /// The document is longer than it may be; the rest was not read.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// The thread that speaks HTTP. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    handle: Handle,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// # Errors
    /// If the system gives no thread, or knows no root certificates.
    pub(crate) fn new(user_agent: &str, bind: Option<IpAddr>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = {
            let _inside = runtime.enter();
            client(user_agent, bind)?
        };
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            // Either way there is nothing more to do.
            runtime.block_on(async { stopped.await.ok() });
            // Without waiting for names that are still being looked up.
            runtime.shutdown_background();
        })?;
        Ok(Self { client, handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Gets a document of at most `len_max` bytes, then calls `done` on the HTTP thread.
    pub(crate) fn get(
        &self,
        url: &str,
        len_max: usize,
        patience: Duration,
        done: impl FnOnce(Result<Vec<u8>, HttpError>) + Send + 'static,
    ) {
        let (client, url) = (self.client.clone(), url.to_owned());
        self.handle.spawn(async move {
            let answer = tokio::time::timeout(patience, get(&client, &url, len_max)).await;
            done(answer.unwrap_or(Err(HttpError::Silent)));
        });
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(Err(_panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the HTTP thread panicked");
        }
    }
}

/// Gets a document and waits for it; for programs that have nothing else to do meanwhile.
///
/// # Errors
/// [`HttpError`], and if it is longer than `len_max` bytes.
pub fn fetch(url: &str, user_agent: &str, len_max: usize) -> Result<Vec<u8>, HttpError> {
    let unreachable = |error: io::Error| HttpError::Unreachable(error.to_string());
    let runtime = Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    runtime.block_on(async {
        let client = client(user_agent, None).map_err(unreachable)?;
        let answer = tokio::time::timeout(FETCH_PATIENCE, get(&client, url, len_max)).await;
        answer.unwrap_or(Err(HttpError::Silent))
    })
}

fn client(user_agent: &str, bind: Option<IpAddr>) -> io::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(user_agent)
        .local_address(bind)
        .redirect(Policy::limited(REDIRECTS_MAX))
        .connect_timeout(CONNECT_PATIENCE)
        .pool_max_idle_per_host(1)
        .build()
        .map_err(io::Error::other)
}

async fn get(client: &reqwest::Client, url: &str, len_max: usize) -> Result<Vec<u8>, HttpError> {
    let is_http = ["http://", "https://"].iter().any(|scheme| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    if !is_http {
        return Err(HttpError::BadUrl);
    }
    let mut response = client.get(url).send().await.map_err(|error| describe(&error))?;
    if !response.status().is_success() {
        return Err(HttpError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + part.len() > len_max {
            return Err(HttpError::TooLong(len_max));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The innermost cause says what a person can act on: "Connection refused", not "error sending request".
fn describe(error: &reqwest::Error) -> HttpError {
    if error.is_timeout() {
        return HttpError::Silent;
    }
    if error.is_builder() {
        return HttpError::BadUrl;
    }
    if error.is_redirect() {
        return HttpError::Unreachable("too many redirects".to_owned());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    HttpError::Unreachable(cause.to_string())
}

const REDIRECTS_MAX: usize = 5;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const FETCH_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// A server that answers every request with `answer`, for as long as anyone asks.
    fn serve(answer: impl Fn(u16) -> Vec<u8> + Send + 'static) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                if matches!(stream.read(&mut request), Ok(1..)) {
                    // The client may have seen enough before the end.
                    stream.write_all(&answer(port)).ok();
                }
            }
        });
        format!("http://127.0.0.1:{port}/announce")
    }

    #[test]
    fn a_document_comes_whole() {
        let url = serve(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec());
        assert_eq!(fetch(&url, "test", 100), Ok(b"hello".to_vec()));
    }

    #[test]
    fn an_endless_document_is_cut_off() {
        let url = serve(|_| {
            let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n".to_vec();
            answer.resize(1 << 20, b'x');
            answer
        });
        assert_eq!(fetch(&url, "test", 10_000), Err(HttpError::TooLong(10_000)));
    }

    #[test]
    fn a_redirect_loop_ends() {
        let url = serve(|port| {
            format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n").into()
        });
        assert_eq!(
            fetch(&url, "test", 100),
            Err(HttpError::Unreachable("too many redirects".to_owned()))
        );
    }

    #[test]
    fn a_refusal_is_told_by_its_number() {
        let url = serve(|_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
        assert_eq!(fetch(&url, "test", 100), Err(HttpError::Status(404)));
        assert_eq!(fetch("ftp://127.0.0.1/", "test", 100), Err(HttpError::BadUrl));
        assert_eq!(fetch("http://", "test", 100), Err(HttpError::BadUrl));
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let http = Http::new("test", None).expect("a thread");
        let (sender, receiver) = std::sync::mpsc::channel();
        http.get(&url, 100, Duration::from_millis(50), move |answer| {
            sender.send(answer).expect("waiting");
        });
        assert_eq!(receiver.recv().expect("called"), Err(HttpError::Silent));
    }
}
