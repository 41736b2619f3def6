//! Pulls from a real registry on loopback: plain, with TLS, with passwords; and from small hostile servers.
//!
//! Needs `docker-registry`, `skopeo`, `openssl` and `htpasswd`. Must not reach beyond loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lith_image::{
    Credentials, Digest, ImageError, ImageStore, NoProgress, Progress, ProgressEvent, PullOptions, Reference,
    RegistryOptions, check_login, credentials_from_docker_config,
};
use support::{
    Documents, Layer, architecture, chain, documents, file, files_below, gzipped, plain, run, tar,
    write_layout,
};

/// Longest wait for a server to come up.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running registry, stopped when dropped.
struct Server {
    child: Child,
    host: String,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a registry answers there, and not something else that took the port in between.
fn is_registry(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // A registry with TLS says in plain words that it wants TLS.
    let asked = stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = asked.and_then(|()| stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    answer.contains("docker-distribution-api-version") || answer.contains("http request to an https server")
}

/// Starts the registry with more configuration below `http:` and at the top.
fn serve(http: impl Fn(&Path) -> String, top: impl Fn(&Path) -> String) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (http, top) = (http(root), top(root));
    // Another program may take the port before the registry does: then the registry ends, and another one is tried.
    for _ in 0..10 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}{top}",
            root.join("data").display(),
        );
        fs::write(root.join("config.yml"), config).unwrap();
        let mut child = Command::new("docker-registry")
            .args([OsStr::new("serve"), root.join("config.yml").as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if is_registry(port) {
                return Server { child, host: format!("127.0.0.1:{port}"), folder };
            }
            assert!(start.elapsed() < DEADLINE, "the registry does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("no registry came up on any port");
}

fn nothing(_: &Path) -> String {
    String::new()
}

fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn layers() -> Vec<Layer> {
    (0..6).map(|i| gzipped(&tar(&[file(format!("f{i}"), noise(700_000, i))]))).collect()
}

/// Puts a test image into a registry by another program.
fn push(server: &Server, options: &[&str]) -> Digest {
    let layout = server.folder.path().join("layout");
    let digest = write_layout(&layout, &layers(), architecture());
    let (from, to) = (format!("oci:{}:t", layout.display()), format!("docker://{}/team/app:1", server.host));
    let arguments = [&["copy", "--preserve-digests", "--insecure-policy"], options, &[&from, &to]].concat();
    run("skopeo", &arguments.iter().map(OsStr::new).collect::<Vec<_>>());
    digest
}

fn plain_http() -> PullOptions {
    PullOptions {
        registry: RegistryOptions { plain_http: true, ..RegistryOptions::default() },
        platform: None,
    }
}

struct Store {
    folder: tempfile::TempDir,
    store: ImageStore,
}

fn store() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(folder.path()).unwrap();
    Store { folder, store }
}

async fn pull(store: &Store, name: &str, options: &PullOptions) -> Result<Digest, ImageError> {
    let reference: Reference = name.parse().unwrap();
    store.store.pull(&reference, options, Arc::new(NoProgress)).await.map(|image| image.digest)
}

async fn check_refused(name: &str, options: &PullOptions, words: &str, hint: &str) {
    let store = store();
    let error = pull(&store, name, options).await.unwrap_err();
    assert!(chain(&error).contains(words), "told {:?}, wanted {words:?}", chain(&error));
    assert!(error.hint().unwrap().contains(hint), "hint {:?}, wanted {hint:?}", error.hint());
    assert_eq!(files_below(store.folder.path()), [""; 0]);
}

#[derive(Default)]
struct Recorder(Mutex<Vec<ProgressEvent>>);

impl Progress for Recorder {
    fn event(&self, event: ProgressEvent) {
        self.0.lock().unwrap().push(event);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_by_tag_and_by_digest() {
    let server = serve(nothing, nothing);
    let digest = push(&server, &["--dest-tls-verify=false"]);
    let host = &server.host;
    let stored = store();
    let recorder = Arc::new(Recorder::default());
    let reference: Reference = format!("{host}/team/app:1").parse().unwrap();
    let image = stored.store.pull(&reference, &plain_http(), recorder.clone()).await.unwrap();
    assert_eq!(image.digest, digest);
    assert_eq!(image.names, [format!("{host}/team/app:1")]);
    stored.store.verify(&digest.to_string()).unwrap();
    let events = std::mem::take(&mut *recorder.0.lock().unwrap());
    assert!(matches!(&events[0], ProgressEvent::Layers(layers) if layers.len() == 6));
    assert_eq!(events.last(), Some(&ProgressEvent::Finishing));
    let by_digest = pull(&store(), &format!("{host}/team/app@{digest}"), &plain_http()).await.unwrap();
    assert_eq!(by_digest, digest);
    let none = format!("{host}/team/app:none");
    check_refused(&none, &plain_http(), "has no such image in \"team/app\"", "spelling").await;
    let name = format!("{host}/team/app:1");
    check_refused(
        &name,
        &PullOptions::default(),
        "cannot talk to registry 127.0.0.1",
        "allow-http 127.0.0.1",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_of_one_image_converge() {
    let server = serve(nothing, nothing);
    let digest = push(&server, &["--dest-tls-verify=false"]);
    let name = format!("{}/team/app:1", server.host);
    let stored = store();
    let second = Store {
        folder: tempfile::tempdir().unwrap(),
        store: ImageStore::open(stored.folder.path()).unwrap(),
    };
    let options = plain_http();
    let (a, b) = tokio::join!(pull(&stored, &name, &options), pull(&second, &name, &options));
    assert_eq!((a.unwrap(), b.unwrap()), (digest, digest));
    assert_eq!(fs::read_dir(stored.folder.path().join("tmp")).unwrap().count(), 0);
}

fn make_certificates(root: &Path) {
    let run_openssl = |arguments: &str| {
        let arguments: Vec<String> =
            arguments.split(' ').map(|a| a.replace("@", &format!("{}/", root.display()))).collect();
        run("openssl", &arguments.iter().map(OsStr::new).collect::<Vec<_>>());
    };
    run_openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout @ca.key -out @ca.pem");
    run_openssl("req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout @tls.key -out @tls.csr");
    fs::write(root.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    run_openssl(
        "x509 -req -in @tls.csr -CA @ca.pem -CAkey @ca.key -CAcreateserial -days 2 -extfile @ext -out @tls.pem",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_passwords() {
    let tls = |root: &Path| {
        make_certificates(root);
        let path = |name: &str| root.join(name).display().to_string();
        format!("  tls: {{certificate: {}, key: {}}}\n", path("tls.pem"), path("tls.key"))
    };
    let auth = |root: &Path| {
        let path: PathBuf = root.join("htpasswd");
        run("htpasswd", &["-Bbc", path.to_str().unwrap(), "ann", "secret"].map(OsStr::new));
        format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", path.display())
    };
    let server = serve(tls, auth);
    let digest = push(&server, &["--dest-tls-verify=false", "--dest-creds=ann:secret"]);
    let options = |password: Option<&str>, trusts: bool| {
        let credentials = password.map(|p| Credentials::password("ann", p));
        let ca = fs::read(server.folder.path().join("ca.pem")).unwrap();
        let ca_certificates_pem = if trusts { vec![ca] } else { Vec::new() };
        PullOptions {
            registry: RegistryOptions { credentials, ca_certificates_pem, ..RegistryOptions::default() },
            platform: None,
        }
    };
    let name = format!("{}/team/app:1", server.host);
    assert_eq!(pull(&store(), &name, &options(Some("secret"), true)).await.unwrap(), digest);
    check_refused(&name, &options(None, true), "wants a login for \"team/app\"", "lith registry login").await;
    check_refused(&name, &options(Some("wrong"), true), "refuses the login", "lith registry login").await;
    check_refused(&name, &options(Some("secret"), false), "cannot talk to registry", "certificate").await;
    check_login(&server.host, &options(Some("secret"), true).registry).await.unwrap();
    let error = check_login(&server.host, &options(Some("wrong"), true).registry).await.unwrap_err();
    let words = format!("registry {} does not accept this name and password", server.host);
    assert_eq!(error.to_string(), words);
}

/// One request's first line and headers, lower case, and its body as it is.
fn read_request(stream: &TcpStream) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 {
        let text = line.trim_end().to_lowercase();
        line.clear();
        if !text.is_empty() {
            lines.push(text);
            continue;
        }
        let length = lines.iter().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        lines.push(String::from_utf8(body).ok()?);
        return Some(lines);
    }
    None
}

/// Answers every connection by `answer`, in a thread of its own, until dropped.
struct Fake {
    host: String,
    stop: Arc<AtomicBool>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.host);
    }
}

fn fake(answer: impl Fn(&[String], &str, &mut TcpStream) + Send + Sync + 'static) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let stop = Arc::new(AtomicBool::new(false));
    let (answer, stopped, name) = (Arc::new(answer), stop.clone(), host.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let (Ok(mut stream), answer, name) = (stream, answer.clone(), name.clone()) else { continue };
            std::thread::spawn(move || {
                if let Some(request) = read_request(&stream) {
                    answer(&request, &name, &mut stream);
                }
            });
        }
    });
    Fake { host, stop }
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    // A client that hangs up early is part of these tests.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

const MANIFEST_TYPE: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";

fn send_document(request: &str, documents: &Documents, stream: &mut TcpStream) -> bool {
    if request.contains("/manifests/") {
        send(stream, "200 OK", MANIFEST_TYPE, &documents.manifest);
    } else if request.contains(&Digest::of(&documents.config).hex()) {
        send(stream, "200 OK", "", &documents.config);
    } else {
        return false;
    }
    true
}

/// A server that breaks every answer with a layer after some bytes; `ranges` tells whether it can go on later.
fn breaking(ranges: bool, whole_after: usize) -> (Fake, Arc<AtomicUsize>) {
    let layer = plain(tar(&[file("big", noise(12_000_000, 9))]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let server = fake(move |request, _, stream| {
        if send_document(&request[0], &documents, stream) {
            return;
        }
        let count = counter.fetch_add(1, Ordering::Relaxed);
        let range =
            request.iter().find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = if ranges { range.unwrap_or(0) } else { 0 };
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let total = layer.blob.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{total}\r\n\r\n",
            total - from,
            total - 1
        );
        let end = if count >= whole_after { total } else { total.min(from + 1_500_000) };
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&layer.blob[from..end]));
    });
    (server, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_resumed() {
    let (server, requests) = breaking(true, usize::MAX);
    let stored = store();
    pull(&stored, &format!("{}/team/app:1", server.host), &plain_http()).await.unwrap();
    assert!(requests.load(Ordering::Relaxed) >= 7, "every request brought a part only");
    let (server, requests) = breaking(false, 2);
    pull(&store(), &format!("{}/team/app:1", server.host), &plain_http()).await.unwrap();
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

/// A registry that wants the token `abc`. `give` is its answer to those who ask for a token: status and body.
fn wanting_token(give: impl Fn(&[String]) -> Option<(&str, &str)> + Send + Sync + 'static) -> Fake {
    let layer = plain(tar(&[file("f", "x")]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    fake(move |request, host, stream| {
        if let Some((status, body)) = give(request) {
            send(stream, status, "", body.as_bytes());
        } else if !request.iter().any(|line| line == "authorization: bearer abc") {
            let challenge = format!(
                "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:team/app:pull\"\r\n"
            );
            send(stream, "401 Unauthorized", &challenge, b"");
        } else if !send_document(&request[0], &documents, stream) {
            send(stream, "200 OK", "", &layer.blob);
        }
    })
}

/// A login that the registry takes and one that it does not.
async fn check_logins(server: &Fake, credentials: impl Fn(&str) -> Credentials) -> String {
    let name = format!("{}/team/app:1", server.host);
    let with = |secret: &str| {
        let mut options = plain_http();
        options.registry.credentials = Some(credentials(secret));
        options
    };
    pull(&store(), &name, &with("secret")).await.unwrap();
    check_refused(&name, &with("other"), "refuses the login", "lith registry login").await;
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn bearer_tokens() {
    let server = wanting_token(|request| {
        let asks = request[0].starts_with("get /token?service=test&scope=repository%3ateam%2fapp%3apull ");
        let is_ann = request.iter().any(|line| line == "authorization: basic yw5uonnly3jlda==");
        asks.then_some((if is_ann { "200 OK" } else { "401 Unauthorized" }, r#"{"token":"abc"}"#))
    });
    let name = check_logins(&server, |password| Credentials::password("ann", password)).await;
    check_refused(&name, &plain_http(), "wants a login", "lith registry login").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_tokens() {
    let server = wanting_token(|request| {
        let (asks, body) = (request[0].starts_with("post /token "), request.last().unwrap());
        let is_known = body.contains("grant_type=refresh_token&")
            && body.contains("&refresh_token=secret&service=test&scope=repository%3Ateam%2Fapp%3Apull");
        asks.then_some((if is_known { "200 OK" } else { "400 Bad Request" }, r#"{"access_token":"abc"}"#))
    });
    check_logins(&server, |token| Credentials::IdentityToken(token.to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_be_read_matters_only_where_one_is_wanted() {
    let mut options = plain_http();
    options.registry.trouble = Some("the helper is broken".to_owned());
    let open = serve(nothing, nothing);
    push(&open, &["--dest-tls-verify=false"]);
    pull(&store(), &format!("{}/team/app:1", open.host), &options).await.unwrap();
    let closed = fake(|_, _, stream| {
        send(stream, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"");
    });
    let words =
        "wants a login for \"team/app\", and the one that is kept cannot be used: the helper is broken";
    check_refused(&format!("{}/team/app:1", closed.host), &options, words, "lith registry login").await;
}

/// A credential helper that runs a script, by the name that a config has for it. Helpers are found by `PATH`, and a test
/// must not change its own: it lies in a folder that is in it everywhere, and goes however the test ends.
struct Helper(String);

impl Helper {
    fn new(script: &str) -> Helper {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lith-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = format!("/usr/local/bin/docker-credential-{name}");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Helper(name)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = fs::remove_file(format!("/usr/local/bin/docker-credential-{}", self.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_credential_helpers() {
    let ask = async |helper: &Helper, registry: &str| {
        let config = format!(r#"{{"credsStore":"{}","auths":{{"b.example":{{"auth":"dTpw"}}}}}}"#, helper.0);
        credentials_from_docker_config(config.as_bytes(), registry).await
    };
    let good =
        Helper::new(r#"[ "$1" = get ] && printf '{"ServerURL":"x","Username":"%s","Secret":"s"}' "$(cat)""#);
    assert_eq!(ask(&good, "a.example").await.unwrap(), Some(Credentials::password("a.example", "s")));
    let hub = Some(Credentials::password("https://index.docker.io/v1/", "s"));
    assert_eq!(ask(&good, "docker.io").await.unwrap(), hub);
    let token = Helper::new(r#"printf '{"Username":"<token>","Secret":"t"}'"#);
    let identity = Some(Credentials::IdentityToken("t".to_owned()));
    assert_eq!(ask(&token, "a.example").await.unwrap(), identity);
    let empty = Helper::new("echo 'credentials not found in native keychain'; exit 1");
    assert_eq!(ask(&empty, "a.example").await.unwrap(), None);
    assert_eq!(ask(&empty, "b.example").await.unwrap(), Some(Credentials::password("u", "p")));
    let locked = Helper::new("printf 'the keychain is \\033[31mlocked'; exit 1");
    let error = ask(&locked, "a.example").await.unwrap_err().to_string();
    assert!(error.ends_with("failed: the keychain is \u{fffd}[31mlocked"), "{error}");
    let endless = Helper::new("exec cat /dev/zero");
    assert!(ask(&endless, "a.example").await.unwrap_err().to_string().contains("failed"));
    let error = credentials_from_docker_config(br#"{"credsStore":"../x"}"#, "a.example").await.unwrap_err();
    assert!(error.to_string().ends_with("its name is not one of a program"), "{error}");
    let error = credentials_from_docker_config(br#"{"credsStore":"none-such"}"#, "a.example").await;
    assert!(error.unwrap_err().to_string().contains("docker-credential-none-such"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_checked_in_words() {
    let check = async |status: &'static str, headers: &'static str, words: &str| {
        let server = fake(move |_, _, stream| send(stream, status, headers, b"<html>"));
        let mut options = plain_http().registry;
        options.credentials = Some(Credentials::password("ann", "secret"));
        let error = check_login(&server.host, &options).await.unwrap_err();
        assert_eq!(error.to_string(), words.replace("HOST", &server.host));
        assert!(error.hint().is_some());
    };
    check("404 Not Found", "", "HOST is no container registry").await;
    check("200 OK", "Content-Type: text/html\r\n", "HOST is no container registry").await;
    check("401 Unauthorized", "", "HOST is no container registry").await;
    let basic = "WWW-Authenticate: Basic realm=\"x\"\r\n";
    check("401 Unauthorized", basic, "registry HOST does not accept this name and password").await;
}

/// A registry that fails so many times before it answers, and the moments of its failures.
fn failing(status: &'static str, headers: &'static str, failures: usize) -> (Fake, Arc<Mutex<Vec<Instant>>>) {
    let layer = plain(tar(&[file("f", "x")]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    let moments = Arc::new(Mutex::new(Vec::new()));
    let seen = moments.clone();
    let server = fake(move |request, _, stream| {
        if send_document(&request[0], &documents, stream) {
            return;
        }
        let count = {
            let mut seen = seen.lock().unwrap();
            seen.push(Instant::now());
            seen.len()
        };
        if count <= failures {
            send(stream, status, headers, b"");
        } else {
            send(stream, "200 OK", "", &layer.blob);
        }
    });
    (server, moments)
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_a_registry_are_waited_out() {
    let (server, moments) = failing("503 busy", "", 2);
    pull(&store(), &format!("{}/team/app:1", server.host), &plain_http()).await.unwrap();
    assert_eq!(moments.lock().unwrap().len(), 3);
    let (server, moments) = failing("429 slow down", "Retry-After: 2\r\n", 1);
    pull(&store(), &format!("{}/team/app:1", server.host), &plain_http()).await.unwrap();
    let moments = moments.lock().unwrap().clone();
    assert!(moments[1] - moments[0] >= Duration::from_secs(2), "it asked again before it was told to");
    let limited = fake(|_, _, stream| send(stream, "429 slow down", "", b""));
    let name = format!("{}/team/app:1", limited.host);
    check_refused(&name, &plain_http(), "answered with status 429", "log in with `lith registry login").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_at_a_time_is_no_progress() {
    let layer = plain(tar(&[file("f", noise(5000, 3))]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let server = fake(move |request, _, stream| {
        if send_document(&request[0], &documents, stream) {
            return;
        }
        counter.fetch_add(1, Ordering::Relaxed);
        let range =
            request.iter().find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        let (from, total): (usize, usize) = (range.unwrap_or(0), layer.blob.len());
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{total}\r\n\r\n",
            total - from,
            total - 1
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&layer.blob[from..=from]));
    });
    let name = format!("{}/team/app:1", server.host);
    check_refused(&name, &plain_http(), "cannot talk to registry", "try again later").await;
    assert_eq!(requests.load(Ordering::Relaxed), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_sizes_are_looked_at_first() {
    let announcing = |bytes: u64| {
        let layer = plain(tar(&[file("f", "x")]));
        let documents = documents(std::slice::from_ref(&layer), architecture());
        let size = format!("\"size\":{}", layer.blob.len());
        let manifest = String::from_utf8(documents.manifest).unwrap();
        let manifest = manifest.replace(&size, &format!("\"size\":{bytes}")).into_bytes();
        let documents = Documents { manifest, ..documents };
        fake(move |request, _, stream| {
            assert!(request[0].contains("/manifests/"), "a byte was asked for: {}", request[0]);
            send_document(&request[0], &documents, stream);
        })
    };
    let name = |server: &Fake| format!("{}/team/app:1", server.host);
    let endless = announcing(u64::MAX);
    check_refused(&name(&endless), &plain_http(), "bytes, and 137438953472 are accepted at most", "honest")
        .await;
    let folder = tempfile::tempdir().unwrap();
    let disk = support::Mounted::tmpfs(&folder.path().join("disk"), 40 << 20);
    let store = ImageStore::open(disk.0.join("store")).unwrap();
    let large = announcing(39 << 20);
    let reference: Reference = name(&large).parse().unwrap();
    let error = store.pull(&reference, &plain_http(), Arc::new(NoProgress)).await.unwrap_err();
    let words =
        format!("there is no room for image {}: it takes 39 MiB at least, and 38 MiB are free", name(&large));
    assert!(chain(&error).starts_with(&words), "{}", chain(&error));
    assert!(error.hint().unwrap().contains("lith image gc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_during_a_pull() {
    // Small on the way, large on the disk: no announcement tells.
    let block = noise(16_000, 5);
    let layer = gzipped(&tar(&[file("big", block.repeat(400))]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    let server = fake(move |request, _, stream| {
        if !send_document(&request[0], &documents, stream) {
            send(stream, "200 OK", "", &layer.blob);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let disk = support::Mounted::tmpfs(&folder.path().join("disk"), 3 << 20);
    let store = ImageStore::open(disk.0.join("store")).unwrap();
    let reference: Reference = format!("{}/team/app:1", server.host).parse().unwrap();
    let error = store.pull(&reference, &plain_http(), Arc::new(NoProgress)).await.unwrap_err();
    assert!(chain(&error).contains("No space left on device"), "{}", chain(&error));
    assert!(error.hint().unwrap().contains("free some space"));
    assert_eq!(files_below(&disk.0.join("store")), [""; 0]);
}

#[test]
fn many_pulls_share_few_threads() {
    let layer = plain(tar(&[file("f", noise(300_000, 5))]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    let server = fake(move |request, _, stream| {
        // Each name is an image of its own: the annotation makes the manifest another one.
        let tag = request[0].split('/').rfind(|part| part.starts_with('t')).unwrap_or_default().to_owned();
        let tag = tag.split(' ').next().unwrap_or_default();
        let manifest = String::from_utf8(documents.manifest.clone()).unwrap();
        let manifest = manifest.replacen('{', &format!("{{\"annotations\":{{\"a\":\"{tag}\"}},"), 1);
        let documents = Documents { manifest: manifest.into_bytes(), config: documents.config.clone() };
        if !send_document(&request[0], &documents, stream) {
            send(stream, "200 OK", "", &layer.blob);
        }
    });
    // Fewer threads than pulls: if each pull kept one, none would be left to write what they wait for.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().max_blocking_threads(6).enable_all().build().unwrap();
    runtime.block_on(async {
        let stored = Arc::new(store());
        let mut pulls = tokio::task::JoinSet::new();
        for i in 0..24 {
            let (stored, name) = (stored.clone(), format!("{}/team/app:t{i}", server.host));
            pulls.spawn(async move { pull(&stored, &name, &plain_http()).await.unwrap() });
        }
        let all = tokio::time::timeout(DEADLINE, pulls.join_all()).await.expect("they wait for each other");
        assert_eq!(all.into_iter().collect::<std::collections::BTreeSet<_>>().len(), 24);
        assert_eq!(fs::read_dir(stored.folder.path().join("locks")).unwrap().count(), 0);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_refused() {
    let layer = plain(tar(&[file("f", noise(5000, 3))]));
    let lying = |lie: fn(&Documents, &[u8], &str, &mut TcpStream)| {
        let documents = documents(std::slice::from_ref(&layer), architecture());
        let blob = layer.blob.clone();
        fake(move |request, _, stream| lie(&documents, &blob, &request[0], stream))
    };
    let changed = lying(|documents, blob, request, stream| {
        if !send_document(request, documents, stream) {
            send(stream, "200 OK", "", &vec![1u8; blob.len()]);
        }
    });
    let name = |server: &Fake| format!("{}/team/app:1", server.host);
    check_refused(&name(&changed), &plain_http(), "the layer does not match its digest", "do not trust")
        .await;
    let longer = lying(|documents, blob, request, stream| {
        if !send_document(request, documents, stream) {
            send(stream, "200 OK", "", &[blob, b"more"].concat());
        }
    });
    check_refused(&name(&longer), &plain_http(), "sent more than", "do not trust").await;
    let config = lying(|documents, _, request, stream| {
        if request.contains("/manifests/") {
            send(stream, "200 OK", MANIFEST_TYPE, &documents.manifest)
        } else {
            send(stream, "200 OK", "", b"{}")
        }
    });
    check_refused(&name(&config), &plain_http(), "the config does not match its digest", "do not trust")
        .await;
    let page = lying(|_, _, _, stream| {
        send(stream, "200 OK", "Content-Type: text/html\r\n", b"{\"schemaVersion\":2}")
    });
    check_refused(&name(&page), &plain_http(), "unknown media type \"text/html\"", "something else").await;
    let by_digest = format!("{}/team/app@{}", config.host, Digest::of(b"other"));
    check_refused(&by_digest, &plain_http(), "the manifest does not match its digest", "do not trust").await;
    let teapot = lying(|_, _, _, stream| send(stream, "418 no", "", b""));
    check_refused(&name(&teapot), &plain_http(), "answered with status 418", "later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_this_machine() {
    let layer = plain(tar(&[file("f", "x")]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    let manifest = Digest::of(&documents.manifest);
    let entry = |architecture: &str, digest: Digest| {
        serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(),
            "size": 1, "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = |entries: Vec<serde_json::Value>| {
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": entries})).unwrap()
    };
    let good = index(vec![entry("s390x", Digest::of(b"x")), entry(architecture(), manifest)]);
    let bad = index(vec![entry("s390x", Digest::of(b"x")), entry("riscv64", Digest::of(b"y"))]);
    let server = fake(move |request, _, stream| {
        let kind = "Content-Type: application/vnd.oci.image.index.v1+json\r\n";
        if request[0].contains("/manifests/good") {
            send(stream, "200 OK", kind, &good);
        } else if request[0].contains("/manifests/bad") {
            send(stream, "200 OK", kind, &bad);
        } else if !send_document(&request[0], &documents, stream) {
            send(stream, "200 OK", "", &layer.blob);
        }
    });
    let digest = pull(&store(), &format!("{}/team/app:good", server.host), &plain_http()).await.unwrap();
    assert_eq!(digest, manifest);
    let words = format!("the image is for linux/s390x, linux/riscv64, not for linux/{}", architecture());
    check_refused(&format!("{}/team/app:bad", server.host), &plain_http(), &words, "architecture").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_leaves_nothing() {
    let layer = plain(tar(&[file("f", noise(100_000, 5))]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    let (asked, was_asked) = tokio::sync::mpsc::unbounded_channel();
    let server = fake(move |request, _, stream| {
        if !send_document(&request[0], &documents, stream) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 103000\r\n\r\nbegin");
            let _ = asked.send(());
            // Holds the connection open until the client hangs up.
            let _ = stream.read(&mut [0]);
        }
    });
    let stored = store();
    let name = format!("{}/team/app:1", server.host);
    let mut was_asked = was_asked;
    let options = plain_http();
    tokio::select! {
        result = pull(&stored, &name, &options) => panic!("ended: {result:?}"),
        _ = was_asked.recv() => {}
    }
    let start = Instant::now();
    while !files_below(stored.folder.path()).is_empty() {
        assert!(start.elapsed() < DEADLINE, "left: {:?}", files_below(stored.folder.path()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The store's folder and the image's name for [`pulls_in_a_process_of_its_own`], with a space between.
const CHILD: &str = "LITH_TEST_PULL";

/// Does nothing by itself: another test starts this program again for it, and kills it.
#[tokio::test(flavor = "multi_thread")]
async fn pulls_in_a_process_of_its_own() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (folder, name) = task.split_once(' ').unwrap();
    let store = ImageStore::open(folder).unwrap();
    let reference: Reference = name.parse().unwrap();
    let _ = store.pull(&reference, &plain_http(), Arc::new(NoProgress)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull_is_swept_and_can_be_repeated() {
    let layer = plain(tar(&[file("f", noise(100_000, 5))]));
    let documents = documents(std::slice::from_ref(&layer), architecture());
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let count = AtomicUsize::new(0);
    let server = fake(move |request, _, stream| {
        if send_document(&request[0], &documents, stream) {
            return;
        }
        if count.fetch_add(1, Ordering::Relaxed) > 0 {
            return send(stream, "200 OK", "", &layer.blob);
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", layer.blob.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&layer.blob[..1000]));
        let _ = asked.send(());
        // Holds the connection open until the client is gone.
        let _ = stream.read(&mut [0]);
    });
    let folder = tempfile::tempdir().unwrap();
    let name = format!("{}/team/app:1", server.host);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pulls_in_a_process_of_its_own"])
        .env(CHILD, format!("{} {name}", folder.path().display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::timeout(DEADLINE, was_asked.recv()).await.unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(files_below(folder.path()), [""; 0], "it was killed in the middle");
    let store = ImageStore::open(folder.path()).unwrap();
    assert_eq!(files_below(folder.path()), [""; 0]);
    assert_eq!(fs::read_dir(folder.path().join("locks")).unwrap().count(), 0);
    let reference: Reference = name.parse().unwrap();
    let image = store.pull(&reference, &plain_http(), Arc::new(NoProgress)).await.unwrap();
    store.verify(&image.digest.to_string()).unwrap();
}
