//! Logins that were made with Docker: its `config.json`, and the helper programs that it names.
//!
//! Must not keep anything. A helper runs with a deadline and may say only so much: its output is not trusted either.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::{AuthError, Credentials, key_host};
use crate::reference::DEFAULT_REGISTRY;
use crate::unpack::clean;

/// Longest run of a helper: some ask a service on the network, none may hold up a pull for longer.
const HELPER_DEADLINE: Duration = Duration::from_secs(20);
/// Bytes of a helper's answer: tokens of a few kilobytes are usual.
const HELPER_BYTES_MAX: u64 = 256 * 1024;
/// How Docker calls its own registry in its config and to helpers.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Finds the credentials for `registry` by the text of a Docker `config.json`; `None` when there are none. May run the
/// helper that the config names for the registry.
pub async fn credentials_from_docker_config(
    json: &[u8],
    registry: &str,
) -> Result<Option<Credentials>, AuthError> {
    let config = parse(json)?;
    if let Some(helper) = helper_of(&config, registry)
        && let Some(credentials) = ask(helper, registry).await?
    {
        return Ok(Some(credentials));
    }
    kept(&config, registry)
}

fn wrong(what: &str) -> AuthError {
    AuthError::DockerConfig { what: what.to_owned() }
}

fn parse(json: &[u8]) -> Result<Config, AuthError> {
    serde_json::from_slice(json)
        .map_err(|e| wrong(&format!("line {}, column {} is not as expected", e.line(), e.column())))
}

/// The helper for a registry: its own, else the one for all.
fn helper_of<'a>(config: &'a Config, registry: &str) -> Option<&'a str> {
    let own = config.cred_helpers.iter().find(|(key, _)| key_host(key) == registry).map(|(_, name)| name);
    own.or(config.creds_store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
}

/// What the config itself holds.
fn kept(config: &Config, registry: &str) -> Result<Option<Credentials>, AuthError> {
    let Some((_, auth)) = config.auths.iter().find(|(key, _)| key_host(key) == registry) else {
        return Ok(None);
    };
    if let Some(token) = auth.identitytoken.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(Credentials::IdentityToken(token.clone())));
    }
    if let Some(encoded) = auth.auth.as_deref().filter(|a| !a.is_empty()) {
        let plain = STANDARD.decode(encoded.trim()).map_err(|_| wrong("an auth field is not base64"))?;
        let plain = String::from_utf8(plain).map_err(|_| wrong("an auth field is not text"))?;
        let (username, password) =
            plain.split_once(':').ok_or_else(|| wrong("an auth field has no password"))?;
        return Ok(Some(Credentials::password(username, password.trim_end_matches('\0'))));
    }
    Ok(match (&auth.username, &auth.password) {
        (Some(username), Some(password)) => Some(Credentials::password(username, password)),
        (_, _) => None,
    })
}

/// Asks a helper. Protocol: the docker-credential-helpers project.
async fn ask(helper: &str, registry: &str) -> Result<Option<Credentials>, AuthError> {
    let failed = |why: &str| AuthError::Helper { helper: clean(helper), why: clean(why) };
    if !helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(failed("its name is not one of a program"));
    }
    let key = if registry == DEFAULT_REGISTRY { DOCKER_HUB_KEY } else { registry };
    let ran = tokio::time::timeout(HELPER_DEADLINE, run(&format!("docker-credential-{helper}"), key)).await;
    let Ok(ran) = ran else {
        return Err(failed(&format!("it did not answer within {} s", HELPER_DEADLINE.as_secs())));
    };
    let (status, output) = ran.map_err(|error| failed(&error.to_string()))?;
    if !status.success() {
        let text = String::from_utf8_lossy(&output);
        // The one failure that has a fixed wording: nobody has logged in.
        let is_none = text.contains("credentials not found");
        return if is_none { Ok(None) } else { Err(failed(text.trim())) };
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| failed("its answer is not understood"))?;
    Ok(match answer.username.as_str() {
        TOKEN_USER => Some(Credentials::IdentityToken(answer.secret)),
        username => Some(Credentials::password(username, &answer.secret)),
    })
}

/// Runs a helper; gives how it ended and what it said. Dropping this ends the helper.
async fn run(program: &str, key: &str) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let stdout = child.stdout.take().expect("it was asked for");
    // A helper that does not read is no failure as long as it answers.
    let _ = stdin.write_all(key.as_bytes()).await;
    drop(stdin);
    let mut output = Vec::new();
    stdout.take(HELPER_BYTES_MAX).read_to_end(&mut output).await?;
    Ok((child.wait().await?, output))
}

#[cfg(test)]
mod tests {
    use super::{helper_of, kept, parse};
    use crate::auth::{AuthError, Credentials};

    fn find(json: &str, registry: &str) -> Result<Option<Credentials>, AuthError> {
        kept(&parse(json.as_bytes())?, registry)
    }

    #[test]
    fn what_docker_keeps_itself() {
        let check = |json: &str, registry: &str, expect: Option<Credentials>| {
            assert!(find(json, registry).unwrap() == expect, "{json}");
        };
        let auth = r#"{"auths":{"registry.example:5000":{"auth":"dTpwOjE="}}}"#;
        check(auth, "registry.example:5000", Some(Credentials::password("u", "p:1")));
        check(auth, "other.example", None);
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#;
        check(hub, "docker.io", Some(Credentials::password("u", "p")));
        let apart = r#"{"auths":{"a.example":{"username":"u","password":"p"}}}"#;
        check(apart, "a.example", Some(Credentials::password("u", "p")));
        let token = r#"{"auths":{"a.example":{"auth":"dTo=","identitytoken":"x"}}}"#;
        check(token, "a.example", Some(Credentials::IdentityToken("x".to_owned())));
        check("{}", "a.example", None);
        for (json, words) in [(r#"{"auths":{"a.example":{"auth":"!"}}}"#, "not base64"), ("[", "line 1")] {
            let error = find(json, "a.example").unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.hint().unwrap().contains("lith registry login"));
        }
    }

    #[test]
    fn helpers_are_chosen_by_registry() {
        let config = parse(br#"{"credHelpers":{"https://a.example":"one"},"credsStore":"all"}"#).unwrap();
        assert_eq!(helper_of(&config, "a.example"), Some("one"));
        assert_eq!(helper_of(&config, "b.example"), Some("all"));
        assert_eq!(helper_of(&parse(b"{}").unwrap(), "a.example"), None);
    }
}
