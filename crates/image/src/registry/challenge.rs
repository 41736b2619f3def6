//! `WWW-Authenticate` challenges and token answers (distribution spec, "Token Authentication").
//!
//! Must not send anything. The input is hostile: a realm must not lure credentials over plain HTTP.

use serde::Deserialize;

/// Bytes of a token server's answer.
pub(crate) const TOKEN_BYTES_MAX: usize = 256 * 1024;

/// How a registry wants to be convinced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: String, scope: String },
}

/// Parses one header value; `None` for schemes that are unknown here.
pub(crate) fn parse(header: &str) -> Option<Challenge> {
    let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, String::new(), String::new());
    let mut rest = parameters;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key.trim_matches([' ', ',']) {
            "realm" => realm = Some(value.to_owned()),
            "service" => value.clone_into(&mut service),
            "scope" => value.clone_into(&mut scope),
            _ => {}
        }
        rest = after;
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// The address to ask for a token; `None` when the realm is no address, or a plain one that was not allowed.
pub(crate) fn token_url(realm: &str, service: &str, scope: &str, plain_http: bool) -> Option<reqwest::Url> {
    let mut url = reqwest::Url::parse(realm).ok()?;
    if url.scheme() != "https" && !(plain_http && url.scheme() == "http") {
        return None;
    }
    for (key, value) in [("service", service), ("scope", scope)] {
        if !value.is_empty() {
            url.query_pairs_mut().append_pair(key, value);
        }
    }
    Some(url)
}

/// The body of a request that changes an identity token for an access token (Docker's token specification, "oauth2").
pub(crate) fn refresh_form(refresh_token: &str, service: &str, scope: &str) -> String {
    let mut form = reqwest::Url::parse("form:").expect("a scheme alone is an address");
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "lith")
        .append_pair("refresh_token", refresh_token)
        .append_pair("service", service)
        .append_pair("scope", scope);
    form.query().unwrap_or_default().to_owned()
}

/// The token in an answer.
pub(crate) fn token(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    answer.token.or(answer.access_token).filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::{Challenge, parse, refresh_form, token, token_url};

    #[test]
    fn challenges() {
        let bearer = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let expect = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: "registry.example".into(),
            scope: "repository:a/b:pull,push".into(),
        };
        assert_eq!(parse(bearer), Some(expect));
        assert_eq!(parse("Basic realm=\"x\""), Some(Challenge::Basic));
        for bad in ["", "Digest x=y", "Bearer", "Bearer realm=\"x", "Bearer service=\"x\""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn realms_stay_on_tls() {
        let url = token_url("https://a.example/t?x=1", "s", "repository:a:pull", false).unwrap();
        assert_eq!(url.as_str(), "https://a.example/t?x=1&service=s&scope=repository%3Aa%3Apull");
        assert!(token_url("http://a.example/t", "", "", false).is_none());
        assert!(token_url("http://a.example/t", "", "", true).is_some());
        assert!(token_url("file:///etc/passwd", "", "", true).is_none());
        let form = refresh_form("a&b", "s", "repository:a:pull");
        assert!(form.contains("refresh_token=a%26b&service=s&scope=repository%3Aa%3Apull"), "{form}");
        assert_eq!(token(br#"{"access_token":"t"}"#).as_deref(), Some("t"));
        assert_eq!(token(b"{\"token\":\"a\\r\\nb\"}"), None);
    }
}
