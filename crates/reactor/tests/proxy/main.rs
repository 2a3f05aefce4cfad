//! The example `proxy`, as its users meet it. Needs `curl` and `wrk`.

mod stage;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stage::{BLOCK, Backend, Proxy, block, eventually, nowhere, program};

#[test]
fn passes_a_request_on_without_what_is_for_one_hop_alone() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let fields = ["Connection: X-Hop, Host", "X-Hop: 1", "X-Kept: 2", "X-Forwarded-For: 192.0.2.1"];
    let options: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
    let head = proxy.curl(&options, "/head?a=b");
    assert!(head.starts_with("GET /head?a=b HTTP/1.1\r\nHost: "), "{head}");
    assert!(head.contains("\r\nX-Kept: 2\r\n"), "{head}");
    assert!(head.contains("\r\nX-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n"), "{head}");
    assert!(!head.contains("X-Hop") && !head.contains("Connection"), "{head}");
}

#[test]
fn bodies_pass_whatever_tells_their_end() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    assert_eq!(proxy.curl(&["-d", "some words"], "/echo"), "some words");
    let chunked = ["-d", "some words", "-H", "Transfer-Encoding: chunked"];
    assert_eq!(proxy.curl(&chunked, "/echo"), "some words");
    assert_eq!(proxy.curl(&[], "/chunks"), "hello world");
    assert_eq!(proxy.curl(&[], "/until-close"), "all there is");
    assert_eq!(proxy.curl(&["-w", "%{http_code}"], "/empty"), "204");
    let raw = proxy.raw("GET /chunks HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(raw.ends_with("5\r\nworld\r\n0\r\nX-Trailer: yes\r\n\r\n"), "passed as it is: {raw}");
    let old = proxy.raw("GET /head HTTP/1.0\r\n\r\n");
    assert!(old.contains("\r\nConnection: close\r\n") && old.contains("GET /head HTTP/1.0"));
}

#[test]
fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let options = ["-i", "-d", "words", "-H", "Expect: 100-continue", "--expect100-timeout", "60"];
    let answer = proxy.curl(&options, "/echo");
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("words"), "{answer}");
}

#[test]
fn connections_last_on_both_sides() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let url = proxy.url("/connection");
    let answers = proxy.curl(&["-w", " %{num_connects}\n", &url, &url], "/connection");
    assert_eq!(answers, "0 1\n0 0\n0 0\n");
    let head = proxy.curl(&["--head", "-w", "%{num_connects}", &url], "/connection");
    assert!(head.contains("Content-Length: 1\r\n") && head.ends_with("\r\n\r\n0"), "{head}");
    assert_eq!(proxy.curl(&[], "/connection"), "0", "another client, the same connection");
}

#[test]
fn a_kept_connection_that_dies_under_a_request_is_made_anew() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    assert_eq!(proxy.curl(&[], "/once"), "once");
    assert_eq!(proxy.curl(&[], "/connection"), "1");
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let mut requests = String::new();
    for index in 0..100 {
        let part = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{index:03}");
        requests += &part;
    }
    requests += "GET /empty HTTP/1.1\r\nHost: a\r\n\r\n";
    requests += "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = proxy.raw(requests);
    let bodies: Vec<&str> =
        answers.split("HTTP/1.1 ").skip(1).map(|one| &one[one.len() - 3..]).collect();
    let expected: Vec<String> = (0..100).map(|index| format!("{index:03}")).collect();
    assert_eq!(bodies[..100], expected);
    assert!(answers.contains("204 No Content") && answers.ends_with("hello"), "{answers}");
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let bad = [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 3\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "A: b\nContent-Length: 3\r\n",
        "A: b\rContent-Length: 3\r\n",
        "A: b\r\n Content-Length: 3\r\n",
        " Content-Length: 3\r\n",
        "A: b\r\n\n",
        "Host: b\r\n",
        "A\0: b\r\n",
    ];
    for fields in bad {
        let answer = proxy.raw(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nabc"));
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{fields:?}: {answer}");
    }
    for head in [
        "GET / HTTP/1.1",
        "GET http://a/ HTTP/1.1\r\nHost: a",
        "GET / HTTP/2.0\r\nHost: a",
        "CONNECT / HTTP/1.1\r\nHost: a",
        "nonsense",
    ] {
        let answer = proxy.raw(format!("{head}\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head:?}: {answer}");
    }
    assert_eq!(backend.requests.load(Ordering::SeqCst), 0, "nothing reached the backend");
    for chunks in [
        "g\r\n",
        "5 5\r\nhello",
        "5\nhello",
        "5\r\nhelloX",
        "-1\r\n",
        "fffffffffffffffff\r\n",
        "\r\n",
    ] {
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = proxy.raw(format!("{head}{chunks}"));
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{chunks:?}: {answer}");
    }
    let good = "Content-Length: 3\r\nContent-Length: 3\r\nConnection: close\r\n";
    let answer = proxy.raw(format!("POST /echo HTTP/1.1\r\nHost: a\r\n{good}\r\nabc"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("abc"), "{answer}");
    let answer = proxy.curl(&["-i"], "/two-lengths");
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
}

#[test]
fn a_head_may_have_16_kib() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let ask = |len| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nA: {}\r\n\r\n", "a".repeat(len))
    };
    assert!(proxy.raw(ask(16_000)).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(proxy.raw(ask(17_000)).starts_with("HTTP/1.1 431 "));
    let many = "A: b\r\n".repeat(101);
    assert!(proxy.raw(format!("GET / HTTP/1.1\r\n{many}\r\n")).starts_with("HTTP/1.1 431 "));
}

#[test]
fn requests_spread_over_the_backends_that_are_up() {
    let (one, two, dead) = (Backend::start(), Backend::start(), nowhere());
    let proxy = Proxy::start(&[&dead, &one.addr.to_string(), &two.addr.to_string()]);
    for _ in 0..10 {
        assert_eq!(proxy.curl(&["-d", "words"], "/echo"), "words");
    }
    let counts = [&one, &two].map(|backend| backend.requests.load(Ordering::SeqCst));
    assert!(counts[0] > 0 && counts[1] > 0 && counts[0] + counts[1] == 10, "{counts:?}");
}

#[test]
fn without_a_backend_that_is_up_the_client_is_told_so() {
    let proxy = Proxy::start(&[&nowhere()]);
    let answer = proxy.curl(&["-i", "-d", "words"], "/");
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    assert!(answer.contains("refused"), "{answer}");
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let output = proxy.curl_fallibly(&[], "/die");
    assert_eq!((output.status.code(), &*output.stdout), (Some(18), &b"half"[..]));
}

#[test]
fn a_client_that_goes_away_ends_its_request() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let mut client = proxy.connect();
    client.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the request", || backend.requests.load(Ordering::SeqCst) == 1);
    drop(client);
    eventually("its end", || backend.given_up.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_client_that_reads_slowly_holds_its_backend_back() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let mut client = proxy.connect();
    let request = format!("GET /big/{BIG} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    wait_for_standstill(|| backend.sent.load(Ordering::SeqCst));
    assert!(backend.sent.load(Ordering::SeqCst) < BIG / 2);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    let body = answer.len() - BIG as usize;
    assert!(answer[..body].ends_with(b"\r\n\r\n"));
    for at in (0..BIG).step_by(BLOCK) {
        let start = body + at as usize;
        assert!(answer[start..].starts_with(&block(at, BIG)), "other bytes near {at}");
    }
}

#[test]
fn a_backend_that_reads_slowly_holds_its_client_back() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&[&listener.local_addr().unwrap().to_string()]);
    let mut client = proxy.connect();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BIG}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    let (mut backend, _) = listener.accept().unwrap();
    let sent = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in (0..BIG).step_by(BLOCK) {
                client.write_all(&block(at, BIG)).unwrap();
                sent.fetch_add(BLOCK as u64, Ordering::SeqCst);
            }
        });
        wait_for_standstill(|| sent.load(Ordering::SeqCst));
        assert!(sent.load(Ordering::SeqCst) < BIG / 2);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            backend.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let mut body = vec![0; BIG as usize];
        backend.read_exact(&mut body).unwrap();
        assert!((0..BIG).step_by(BLOCK).all(|at| body[at as usize..].starts_with(&block(at, BIG))));
    });
}

/// Until a counter stays where it is for a while. Too early does no harm: what follows holds anyway.
fn wait_for_standstill(count: impl Fn() -> u64) {
    let mut before = None;
    while before != Some(count()) || before == Some(0) {
        before = Some(count());
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn files_are_served_whole_and_in_part() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a b.txt"), "0123456789").unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    let proxy = Proxy::start(&["--root", folder.path().to_str().unwrap()]);
    let whole = proxy.curl(&["-i"], "/a%20b.txt?query");
    assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\n0123456789"));
    for field in
        ["Content-Length: 10", "Content-Type: text/plain; charset=utf-8", "Accept-Ranges: bytes"]
    {
        assert!(whole.contains(&format!("\r\n{field}\r\n")), "{field}: {whole}");
    }
    let head = proxy.curl(&["--head"], "/a%20b.txt");
    assert!(head.contains("Content-Length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let ranges =
        [("2-4", "234"), ("7-", "789"), ("-3", "789"), ("-30", "0123456789"), ("8-99", "89")];
    for (range, expected) in ranges {
        let answer = proxy.curl(&["-w", " %{http_code}", "-r", range], "/a%20b.txt");
        assert_eq!(answer, format!("{expected} 206"), "{range}");
    }
    let past = proxy.curl(&["-i", "-r", "10-"], "/a%20b.txt");
    assert!(past.starts_with("HTTP/1.1 416 ") && past.contains("Content-Range: bytes */10\r\n"));
    assert!(proxy.curl(&["-i", "-r", "-1"], "/empty").starts_with("HTTP/1.1 416 "));
    for odd in ["bytes=1-2,4-5", "bytes=4-2", "lines=1-2", "bytes=-"] {
        let field = format!("Range: {odd}");
        let answer = proxy.curl(&["-w", " %{http_code}", "-H", &field], "/a%20b.txt");
        assert_eq!(answer, "0123456789 200", "{odd}");
    }
    let date = whole.split("Last-Modified: ").nth(1).unwrap().lines().next().unwrap();
    let since = format!("If-Modified-Since: {date}");
    assert_eq!(proxy.curl(&["-w", "%{http_code}", "-H", &since], "/a%20b.txt"), "304");
    assert!(proxy.curl(&["-i", "-d", "x"], "/a%20b.txt").starts_with("HTTP/1.1 405 "));
}

#[test]
fn a_big_file_arrives_whole_while_backends_answer_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..BIG / 2).step_by(BLOCK).flat_map(|at| block(at, BIG / 2)).collect();
    fs::write(folder.path().join("big"), &bytes).unwrap();
    let backend = Backend::start();
    let root = folder.path().to_str().unwrap();
    let proxy = Proxy::start(&[&backend.addr.to_string(), "--root", root]);
    let (file, url) = (proxy.curl_fallibly(&[], "/static/big").stdout, proxy.url("/static/big"));
    assert!(file == bytes);
    let counts = proxy.curl(&["-w", "%{num_connects}", "-o", "/dev/null", &url], "/connection");
    assert_eq!(counts, "100", "one connection, and backend 0 beside the file");
}

#[test]
fn no_path_leads_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (root, secret) = (folder.path().join("root"), folder.path().join("secret"));
    fs::create_dir_all(root.join("dir")).unwrap();
    fs::write(&secret, "secret").unwrap();
    fs::write(root.join("dir/index.html"), "index").unwrap();
    std::os::unix::fs::symlink(&secret, root.join("leak")).unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    std::os::unix::fs::symlink("dir/index.html", root.join("within")).unwrap();
    let proxy = Proxy::start(&["--root", root.to_str().unwrap()]);
    assert_eq!(proxy.curl(&["-L"], "/dir"), "index");
    assert_eq!(proxy.curl(&[], "/within"), "index");
    let out = [
        "/../secret",
        "/%2e%2E/secret",
        "/dir/..%2f..%2fsecret",
        "/leak",
        "/up/secret",
        "/dir%00",
        "/%zz",
        "/%2",
    ];
    for path in out.into_iter().chain(["/missing", "//secret", "/dir/../../secret"]) {
        let answer = proxy.curl(&["-i"], path);
        let is_refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 404 ");
        assert!(is_refused, "{path}: {answer}");
    }
}

#[test]
fn told_to_stop_it_finishes_what_it_has_begun() {
    let backend = Backend::start();
    let mut proxy = Proxy::before(&backend);
    let mut idle = proxy.connect();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("its answer", || idle.peek(&mut [0; 1]).is_ok_and(|count| count > 0));
    let mut busy = proxy.connect();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("both requests", || backend.requests.load(Ordering::SeqCst) == 2);
    proxy.signal("TERM");
    let mut answer = String::new();
    idle.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    eventually("the listener's end", || TcpStream::connect(proxy.addr).is_err());
    drop(idle);
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("Connection: close\r\n") && answer.ends_with("at last"), "{answer}");
    drop(busy);
    assert!(proxy.wait().success());
}

#[test]
fn fifty_connections_at_once_meet_no_error() {
    let backend = Backend::start();
    let proxy = Proxy::before(&backend);
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c50", "-d1s", "--timeout", "60s", &proxy.url("/")]);
    let output = wrk.output().expect("wrk is installed: apt install wrk");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && report.contains("requests in"), "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    assert!(backend.connections.load(Ordering::SeqCst) <= 50, "connections are used again");
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let wrong: [&[&str]; 6] = [
        &[],
        &["127.0.0.1:0"],
        &["--root"],
        &["--nonsense"],
        &["127.0.0.1"],
        &["127.0.0.1:0", "--root", "/nowhere"],
    ];
    for words in wrong {
        let output = Command::new(program()).args(words).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && message.contains("usage: proxy"), "{words:?}");
    }
}

const BIG: u64 = 64 * 1024 * 1024;
