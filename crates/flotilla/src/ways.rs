//! Which way everything goes, as the options say it.

use std::env;

use engine::{NetworkConfig, ProxyConfig, SessionConfig};
use torrent::proxy::{Login, ProxyUrl};

use crate::cli::Ways;
use crate::failure::Failure;
use crate::source::USER_AGENT;

/// A session that goes the way it is told to, and is as usual otherwise.
pub(crate) fn session_config(ways: &Ways) -> Result<SessionConfig, Failure> {
    let proxy = ways.proxy.as_deref().map(proxy_url).transpose()?;
    let is_loose = ways.proxy_loose;
    Ok(SessionConfig {
        user_agent: USER_AGENT.to_owned(),
        network: NetworkConfig {
            interface: ways.interface.clone(),
            is_anonymous: ways.anonymous,
            allow_local: ways.allow_local,
        },
        proxy: proxy.map(|url| ProxyConfig { strict: !is_loose, ..ProxyConfig::new(url) }),
        ..SessionConfig::default()
    })
}

/// The text is not in what is complained of: it may have a password in it.
fn proxy_url(text: &str) -> Result<ProxyUrl, Failure> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| Failure::Usage(format!("{what}: {error}"));
    let url: ProxyUrl = text.parse().map_err(|error| wrong("--proxy", &error))?;
    match env::var(LOGIN_VARIABLE) {
        Ok(login) if !login.is_empty() => {
            let (user, password) = login.split_once(':').unwrap_or((&login, ""));
            let login = Login::new(user.to_owned(), password.to_owned());
            let login = login
                .map_err(|_error| wrong(LOGIN_VARIABLE, &"it must look like USER:PASSWORD"))?;
            Ok(url.with_login(login))
        }
        Ok(_) | Err(env::VarError::NotPresent) => Ok(url),
        Err(env::VarError::NotUnicode(_)) => Err(wrong(LOGIN_VARIABLE, &"it is no UTF-8 text")),
    }
}

const LOGIN_VARIABLE: &str = "FLOTILLA_PROXY_LOGIN";
