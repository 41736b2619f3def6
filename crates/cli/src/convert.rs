//! `check`, `convert`, `schema`: what can be done with files and without a server.

use lith_spec::{ComposeReading, Connection, JobSpec, Variable};

use crate::args::FileArgs;
use crate::context::{Context, say};
use crate::error::Error;
use crate::exit;
use crate::source::{self, Source};
use crate::table::Table;

/// `lith check`.
pub(crate) fn check(context: &Context, args: &FileArgs) -> Result<u8, Error> {
    let Source { name, is_compose, reading, .. } = source::read(args)?;
    let ComposeReading { job, diagnostics, connections, variables, .. } = reading;
    let code = if job.is_some() { exit::DONE } else { exit::FAILED };
    if context.json {
        let found = serde_json::json!({
            "is_valid": job.is_some(),
            "diagnostics": diagnostics.list,
            "connections": connections,
            "variables": variables,
            "refused_by_deploy": job.as_ref().map_or_else(Vec::new, refused),
            "not_in_force": job.as_ref().and_then(lith_spec::not_in_force),
        });
        context.print_json(&found)?;
        return Ok(code);
    }
    let Some(job) = job else { return Err(Error::File(Box::new(diagnostics))) };
    if !diagnostics.list.is_empty() {
        say(&format!("{}\n", diagnostics.render(context.terminal.stderr.diagnostics()).trim_end()));
    }
    if !variables.is_empty() {
        context.say("variables:");
        context.print_table(&variable_table(&variables))?;
    }
    if !connections.is_empty() {
        context.say(
            "connections, each with what shows that it is needed (--narrow leaves out those with nothing):",
        );
        context.print_table(&connection_table(&connections))?;
    }
    let language = if is_compose { "Compose file" } else { "job file" };
    context.say(&format!("{name} is a valid {language}: job {}, {}", job.name, count(job.tasks().count())));
    say_what_is_to_come(context, &job);
    Ok(code)
}

/// The file is right; what this version does with it is another matter, better known before `lith deploy`.
fn say_what_is_to_come(context: &Context, job: &JobSpec) {
    for sentence in refused(job) {
        context.say(&format!("`lith deploy` refuses it in this version: {sentence}"));
    }
    if let Some(sentence) = lith_spec::not_in_force(job) {
        context.say(&sentence);
    }
}

fn refused(job: &JobSpec) -> Vec<String> {
    lith_spec::refusals(job).into_iter().map(|refusal| refusal.message).collect()
}

fn count(tasks: usize) -> String {
    if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") }
}

fn variable_table(variables: &[Variable]) -> Table {
    let mut table = Table::new(&["NAME", "VALUE", "WHERE"]);
    for variable in variables {
        let value = match (variable.is_given, &variable.default) {
            (true, _) => "given".to_owned(),
            (false, Some(default)) => format!("default \"{default}\""),
            (false, None) => "missing".to_owned(),
        };
        let place = format!("{}:{}:{}", variable.file, variable.line, variable.column);
        table.row(vec![variable.name.clone(), value, place]);
    }
    table
}

fn connection_table(connections: &[Connection]) -> Table {
    let mut table = Table::new(&["FROM", "TO", "PORTS", "EVIDENCE"]);
    for connection in connections {
        let ports = if connection.ports.is_empty() { "any".to_owned() } else { connection.ports.join(", ") };
        let evidence = connection.evidence.join(", ");
        table.row(vec![connection.from.clone(), connection.to.clone(), ports, evidence]);
    }
    table
}

/// `lith convert`.
pub(crate) fn convert(context: &Context, args: &FileArgs) -> Result<u8, Error> {
    let paths = if args.named().is_empty() { source::found_compose()? } else { args.named().to_vec() };
    context.print(&source::read_paths(&paths, args)?.accepted(context)?.text)?;
    Ok(exit::DONE)
}

/// `lith schema`.
pub(crate) fn schema(context: &Context) -> Result<u8, Error> {
    context.print(&lith_spec::json_schema())?;
    Ok(exit::DONE)
}
