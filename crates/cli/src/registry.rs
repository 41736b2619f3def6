//! `registry …`.

use std::io::{BufRead, IsTerminal, Write};

use lith_api::client::escape;
use lith_api::error::Code;
use lith_api::image::{Login, Registry};

use crate::args::{LoginArgs, RegistryCommand};
use crate::context::Context;
use crate::error::Error;
use crate::exit;
use crate::raw::Guard;
use crate::table::Table;

/// `lith registry …`.
pub(crate) async fn registry(context: &Context, command: &RegistryCommand) -> Result<u8, Error> {
    match command {
        RegistryCommand::Login(args) => login(context, args).await,
        RegistryCommand::Ls => list(context).await,
        RegistryCommand::Logout { host } => {
            let _: serde_json::Value = context.client.delete(&path(host)).await?;
            context.say(&format!("logged out of {host}"));
            Ok(exit::DONE)
        }
        RegistryCommand::AllowHttp { host } => {
            let nothing = serde_json::json!({});
            let _: serde_json::Value =
                context.client.put(&format!("{}/plain-http", path(host)), &nothing).await?;
            context.say(&format!(
                "{host} may be asked over plain HTTP: whoever is on the way can read names, passwords and images"
            ));
            Ok(exit::DONE)
        }
        RegistryCommand::RefuseHttp { host } => {
            let _: serde_json::Value = context.client.delete(&format!("{}/plain-http", path(host))).await?;
            context.say(&format!("{host} must speak TLS"));
            Ok(exit::DONE)
        }
    }
}

fn path(host: &str) -> String {
    format!("/v1/registries/{}", escape(host))
}

async fn list(context: &Context) -> Result<u8, Error> {
    let registries: Vec<Registry> = context.client.get("/v1/registries").await?;
    if context.json {
        context.print_json(&registries)?;
    } else if registries.is_empty() {
        context.say("nothing is kept of any registry; `lith registry login HOST` keeps a login");
    } else {
        let mut table = Table::new(&["REGISTRY", "LOGIN", "TLS"]);
        for Registry { host, username, plain_http } in registries {
            let tls = if plain_http { "not needed" } else { "required" };
            table.row(vec![host, username.unwrap_or_else(|| "-".to_owned()), tls.to_owned()]);
        }
        context.print_table(&table)?;
    }
    Ok(exit::DONE)
}

async fn login(context: &Context, args: &LoginArgs) -> Result<u8, Error> {
    let username = match &args.username {
        Some(username) => username.clone(),
        None if args.password_stdin => {
            return Err(Error::usage(
                "standard input holds the password, so the user name cannot be asked for",
                "give it with `--username`",
            ));
        }
        None => ask("user name: ", Echo::Shown)?,
    };
    let password = if args.password_stdin { line()? } else { ask("password: ", Echo::Hidden)? };
    let login = Login { username: username.clone(), password, plain_http: args.plain_http };
    let _: serde_json::Value = context.client.put(&path(&args.host), &login).await?;
    context.say(&format!("logged in to {} as {username}", args.host));
    Ok(exit::DONE)
}

/// Whether what is typed is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    Shown,
    Hidden,
}

fn ask(question: &str, echo: Echo) -> Result<String, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage(
            "nobody is there to be asked for the user name and password",
            "give them with `--username NAME --password-stdin`",
        ));
    }
    let mut stderr = std::io::stderr();
    // Without the question the answer can be typed all the same.
    let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
    if echo == Echo::Shown {
        return line();
    }
    let guard = Guard::silent().map_err(|error| {
        let message = format!("cannot hide what is typed: {error}");
        Error::new(Code::Machine, message, "use `--password-stdin`")
    })?;
    let password = line();
    drop(guard);
    let _ = writeln!(stderr);
    password
}

/// A line of standard input without its end.
fn line() -> Result<String, Error> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| {
        let message = format!("cannot read standard input: {error}");
        Error::new(Code::Machine, message, "give the password as one line of text")
    })?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(Error::usage(
            "the answer is empty",
            "a registry wants a user name and a password or token",
        ));
    }
    Ok(line.to_owned())
}
