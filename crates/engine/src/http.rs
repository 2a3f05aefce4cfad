//! HTTP for trackers, torrent files and web seeds: reqwest on one small thread of its own.

use std::io;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderName, LOCATION, RANGE,
    RETRY_AFTER,
};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use torrent::web_seed::{WebHead, WebRequest};

use crate::http_client::{Bounds, Clients, Family};

pub use crate::http_client::HttpOptions;

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
    /// It is on this machine or in its own network, and may not be there.
    #[error(
        "it leads into our own network, and not all that its torrent names is there; allow local addresses to trust it"
    )]
    Local,
    /// Its server has addresses of one family only, so there is no asking over the other.
    #[error("its server has addresses of one family only")]
    OneFamily,
    /// The document is longer than it may be; the rest was not read.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// The thread that speaks HTTP. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Http {
    clients: Clients,
    handle: Handle,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// What stands in for the world's servers.
    #[cfg(test)]
    pub(crate) pretended: Option<crate::simulated_web::PretendedWeb>,
}

impl Http {
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn new(options: HttpOptions) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let clients = Clients::new(options);
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            // Either way there is nothing more to do.
            runtime.block_on(async { stopped.await.ok() });
            // Without waiting for names that are still being looked up.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            clients,
            handle,
            stop: Some(stop),
            thread: Some(thread),
            #[cfg(test)]
            pretended: None,
        })
    }

    /// Where futures of tokio run.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.handle
    }

    /// Gets a document or a part of it, and calls `tell` on the HTTP thread for all that comes. Of the body
    /// nothing is read but what [`Stream::allow`] allows.
    pub(crate) fn stream(
        &self,
        request: WebRequest,
        bounds: Bounds,
        tell: impl FnMut(Streamed) + Send + 'static,
    ) -> Stream {
        let (allowance, allowed) = mpsc::unbounded_channel();
        #[cfg(test)]
        if let Some(web) = &self.pretended {
            web.stream(&request, allowed, tell);
            let task = self.handle.spawn(async {}).abort_handle();
            return Stream { allowance, task };
        }
        let clients = self.clients.clone();
        let task =
            self.handle.spawn(stream(clients, request, bounds, allowed, tell)).abort_handle();
        Stream { allowance, task }
    }

    /// Gets a document of at most `len_max` bytes, then calls `done` on the HTTP thread. The server is asked by the
    /// first address if it is asked over IPv4, and by the second over IPv6.
    pub(crate) fn get(
        &self,
        urls: [&str; 2],
        bounds: Bounds,
        family: Family,
        len_max: usize,
        patience: Duration,
        done: impl FnOnce(Result<Vec<u8>, HttpError>) + Send + 'static,
    ) {
        let (clients, [v4, v6]) = (self.clients.clone(), urls.map(str::to_owned));
        self.handle.spawn(async move {
            let got = async {
                let (client, is_over_v6) = clients.for_document(&v4, bounds, family).await?;
                let url = if is_over_v6 { &v6 } else { &v4 };
                match get(&client, url, len_max).await {
                    // The way over that family may lead nowhere.
                    Err(HttpError::Unreachable(_) | HttpError::Silent)
                        if family == Family::First =>
                    {
                        let (client, is_over_v6) = clients.by_any_way(&v4, bounds).await?;
                        get(&client, if is_over_v6 { &v6 } else { &v4 }, len_max).await
                    }
                    answer => answer,
                }
            };
            let answer = tokio::time::timeout(patience, got).await;
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

/// What comes of [`Http::stream`], in order.
#[derive(Debug)]
pub(crate) enum Streamed {
    /// The head of the answer, and where the server is, unless a proxy alone knows that.
    Head(WebHead, Option<IpAddr>),
    /// Some of the body.
    Data(Bytes),
    /// There is no more of it.
    End,
    /// There is no answer, or the rest of it does not come.
    Failed(HttpError),
}

/// A document on its way. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Stream {
    allowance: mpsc::UnboundedSender<usize>,
    task: AbortHandle,
}

impl Stream {
    /// Lets so many bytes more come, and what comes with the last of them.
    pub(crate) fn allow(&self, len: usize) {
        // It may just have ended.
        self.allowance.send(len).ok();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Gets a document and waits for it; for programs that have nothing else to do meanwhile.
///
/// # Errors
/// [`HttpError`], and if it is longer than `len_max` bytes.
pub fn fetch(url: &str, options: &HttpOptions, len_max: usize) -> Result<Vec<u8>, HttpError> {
    let unreachable = |error: io::Error| HttpError::Unreachable(error.to_string());
    let runtime = Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    runtime.block_on(async {
        let clients = Clients::new(options.clone());
        let got = async {
            let (client, _) = clients.by_any_way(url, Bounds::Anywhere).await?;
            get(&client, url, len_max).await
        };
        tokio::time::timeout(FETCH_PATIENCE, got).await.unwrap_or(Err(HttpError::Silent))
    })
}

async fn stream(
    clients: Clients,
    request: WebRequest,
    bounds: Bounds,
    mut allowed: mpsc::UnboundedReceiver<usize>,
    mut tell: impl FnMut(Streamed),
) {
    let (mut response, from) = match part(&clients, &request, bounds).await {
        Ok(answer) => answer,
        Err(error) => return tell(Streamed::Failed(error)),
    };
    tell(Streamed::Head(head(&response), from));
    let mut allowance = 0_usize;
    loop {
        while allowance == 0 {
            let Some(more) = allowed.recv().await else { return };
            allowance = allowance.saturating_add(more);
        }
        match response.chunk().await {
            Ok(Some(data)) => {
                allowance = allowance.saturating_sub(data.len());
                tell(Streamed::Data(data));
            }
            Ok(None) => return tell(Streamed::End),
            Err(error) => return tell(Streamed::Failed(describe(&error))),
        }
    }
}

/// Asks for a part of a document.
async fn part(
    clients: &Clients,
    request: &WebRequest,
    bounds: Bounds,
) -> Result<(reqwest::Response, Option<IpAddr>), HttpError> {
    let (client, found) = clients.for_part(&request.url, bounds).await?;
    let mut builder = client.get(&request.url).header(ACCEPT_ENCODING, "identity");
    if let Some(range) = &request.range {
        builder = builder.header(RANGE, format!("bytes={}-{}", range.start(), range.end()));
    }
    let response = builder.send().await.map_err(|error| describe(&error))?;
    // What answers may be a proxy that the system names.
    let from = response.remote_addr().map(|addr| addr.ip()).filter(|ip| found.contains(ip));
    Ok((response, from))
}

fn head(response: &reqwest::Response) -> WebHead {
    let headers: &HeaderMap = response.headers();
    let text = |name: HeaderName| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let location = text(LOCATION).and_then(|location| response.url().join(&location).ok());
    WebHead {
        status: response.status().as_u16(),
        content_len: response.content_length(),
        content_range: text(CONTENT_RANGE),
        content_encoding: text(CONTENT_ENCODING),
        retry_after: text(RETRY_AFTER),
        location: location.map(String::from),
    }
}

async fn get(client: &reqwest::Client, url: &str, len_max: usize) -> Result<Vec<u8>, HttpError> {
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
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if let Some(ours) = cause.downcast_ref::<HttpError>() {
        return ours.clone();
    }
    let why = cause.to_string();
    // All that is said of a SOCKS proxy that does not answer: neither why, nor that it is about the proxy.
    if why.ends_with("failed to create underlying connection") {
        return HttpError::Unreachable("the proxy cannot be reached".to_owned());
    }
    HttpError::Unreachable(why)
}

const FETCH_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

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
        assert_eq!(fetch(&url, &HttpOptions::default(), 100), Ok(b"hello".to_vec()));
    }

    #[test]
    fn an_endless_document_is_cut_off() {
        let url = serve(|_| {
            let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n".to_vec();
            answer.resize(1 << 20, b'x');
            answer
        });
        assert_eq!(fetch(&url, &HttpOptions::default(), 10_000), Err(HttpError::TooLong(10_000)));
    }

    #[test]
    fn a_redirect_loop_ends() {
        let url = serve(|port| {
            format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n").into()
        });
        assert_eq!(
            fetch(&url, &HttpOptions::default(), 100),
            Err(HttpError::Unreachable("too many redirects".to_owned()))
        );
    }

    #[test]
    fn a_refusal_is_told_by_its_number() {
        let url = serve(|_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
        assert_eq!(fetch(&url, &HttpOptions::default(), 100), Err(HttpError::Status(404)));
        assert_eq!(fetch("ftp://127.0.0.1/", &HttpOptions::default(), 100), Err(HttpError::BadUrl));
        assert_eq!(fetch("http://", &HttpOptions::default(), 100), Err(HttpError::BadUrl));
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let http = Http::new(HttpOptions::default()).expect("a thread");
        let (sender, receiver) = std::sync::mpsc::channel();
        http.get(
            [&url; 2],
            Bounds::Anywhere,
            Family::First,
            100,
            Duration::from_millis(50),
            move |answer| {
                sender.send(answer).expect("waiting");
            },
        );
        assert_eq!(receiver.recv().expect("called"), Err(HttpError::Silent));
    }

    fn reached(url: &str, bounds: Bounds) -> Result<Vec<u8>, HttpError> {
        let http = Http::new(HttpOptions::default()).expect("a thread");
        let (sender, receiver) = std::sync::mpsc::channel();
        http.get([url; 2], bounds, Family::First, 100, FETCH_PATIENCE, move |answer| {
            sender.send(answer).expect("waiting");
        });
        receiver.recv().expect("called")
    }

    #[test]
    fn a_server_of_ipv6_alone_is_asked_what_is_meant_for_ipv6() {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            return; // This machine has no IPv6.
        };
        let root = format!("http://{}", listener.local_addr().expect("bound"));
        let urls = ["v4", "v6"].map(|name| format!("{root}/{name}"));
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("asked");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a question");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len());
            (&stream).write_all(answer.as_bytes()).expect("taken");
        });
        let http = Http::new(HttpOptions::default()).expect("a thread");
        let (sender, receiver) = std::sync::mpsc::channel();
        let urls = urls.each_ref().map(String::as_str);
        http.get(urls, Bounds::Anywhere, Family::First, 100, FETCH_PATIENCE, move |answer| {
            sender.send(answer).expect("waiting");
        });
        let asked = receiver.recv().expect("called").expect("an answer");
        assert_eq!(asked, b"GET /v6 HTTP/1.1\r\n");
    }

    #[test]
    fn what_is_of_the_world_is_not_looked_for_at_home() {
        let url = serve(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec());
        let by_name = url.replace("127.0.0.1", "localhost");
        let router = by_name.replace("announce", "reboot");
        for url in [&url, &by_name] {
            assert_eq!(reached(url, Bounds::World), Err(HttpError::Local));
            assert_eq!(reached(url, Bounds::HomeTracker), Ok(b"hello".to_vec()));
        }
        assert_eq!(reached(&router, Bounds::HomeTracker), Err(HttpError::Local));
        assert_eq!(reached(&router, Bounds::Anywhere), Ok(b"hello".to_vec()));
    }

    #[test]
    fn a_tracker_at_home_sends_us_nowhere_but_to_a_tracker() {
        for (place, is_followed) in
            [("/announce.php?x", true), ("/reboot", false), ("http://localhost/announce", false)]
        {
            let url = serve(move |port| {
                let port = port.to_string();
                let place = if place.starts_with('/') {
                    format!("http://127.0.0.1:{port}{place}")
                } else {
                    place.to_owned()
                };
                format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n").into()
            });
            let answer = reached(&url, Bounds::HomeTracker).expect_err("it leads nowhere else");
            let many = HttpError::Unreachable("too many redirects".to_owned());
            assert_eq!(answer, if is_followed { many } else { HttpError::Local }, "{place}");
        }
    }

    #[test]
    fn a_proxy_that_is_not_there_is_told_from_a_tracker_that_is_not() {
        // Nobody listens at this port any more.
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|gone| gone.local_addr());
        let nowhere = gone.expect("a free port");
        let proxy = format!("socks5://{nowhere}").parse().ok();
        let options = HttpOptions { proxy, ..HttpOptions::default() };
        let error = fetch("http://192.0.2.1/announce", &options, 100).expect_err("no proxy");
        assert_eq!(error, HttpError::Unreachable("the proxy cannot be reached".to_owned()));
    }

    #[test]
    fn nobody_in_the_world_sends_us_home() {
        // A proxy that has the same answer for the whole world.
        let home = serve(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec());
        let proxy = serve(move |_| {
            format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {home}\r\nContent-Length: 0\r\n\r\n").into()
        });
        let proxy = proxy.strip_suffix("/announce").and_then(|proxy| proxy.parse().ok());
        let http = Http::new(HttpOptions { proxy, ..HttpOptions::default() }).expect("a thread");
        let (sender, receiver) = std::sync::mpsc::channel();
        let url = "http://tracker.example.org/announce";
        http.get([url; 2], Bounds::World, Family::First, 100, FETCH_PATIENCE, move |answer| {
            sender.send(answer).expect("waiting");
        });
        assert_eq!(receiver.recv().expect("called"), Err(HttpError::Local));
    }
}
