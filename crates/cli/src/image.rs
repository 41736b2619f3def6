//! `image …`.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::StreamExt;
use hyper::Method;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lith_api::client::{Answers, escape};
use lith_api::error::{Code, Failure};
use lith_api::image::{CollectRequest, Collected, Image, ImageDetail, Progress, PullRequest};

use crate::args::{ImageCommand, PullArgs};
use crate::context::Context;
use crate::error::Error;
use crate::size::size;
use crate::spinner::Spinner;
use crate::table::Table;
use crate::{exit, pack, time};

/// Characters of a digest that are shown: as many as Docker shows, enough to tell a machine's images apart.
const DIGEST_CHARS: usize = 12;

/// `lith image …`.
pub(crate) async fn image(context: &Context, command: &ImageCommand) -> Result<u8, Error> {
    match command {
        ImageCommand::Ls => list(context).await,
        ImageCommand::Pull(args) => pull(context, args).await,
        ImageCommand::Load { path, name } => load(context, path, name.as_deref()).await,
        ImageCommand::Rm { images } => remove(context, images).await,
        ImageCommand::Gc { all } => collect(context, *all).await,
        ImageCommand::Verify { images } => verify(context, images).await,
        ImageCommand::Inspect { image } => {
            let detail: ImageDetail = context.client.get(&format!("/v1/images/{}", escape(image))).await?;
            context.print_json(&detail)?;
            Ok(exit::DONE)
        }
    }
}

async fn list(context: &Context) -> Result<u8, Error> {
    let images: Vec<Image> = context.client.get("/v1/images").await?;
    if context.json {
        context.print_json(&images)?;
    } else if images.is_empty() {
        context.say("no images; `lith image pull NAME` fetches one, and `lith deploy` what it needs");
    } else {
        context.print_table(&image_table(&images, time::now_ms()))?;
    }
    Ok(exit::DONE)
}

async fn pull(context: &Context, args: &PullArgs) -> Result<u8, Error> {
    let request = PullRequest { reference: args.image.clone(), plain_http: args.plain_http };
    let answers = context.client.lines(Method::POST, "/v1/images/pull", Some(&request)).await?;
    take_in(context, answers).await
}

async fn load(context: &Context, path: &Path, name: Option<&str>) -> Result<u8, Error> {
    let mut query = Vec::from_iter(name.map(|name| format!("name={}", escape(name))));
    let bytes = if path == Path::new("-") {
        pack::stdin()
    } else {
        let found =
            std::fs::metadata(path).map_err(|error| Error::local("load the image from", path, &error))?;
        query.push(format!("archive={}", escape(&path.to_string_lossy())));
        if found.is_file() {
            query.push(format!("bytes={}", found.len()));
        }
        if found.is_dir() { pack::folder_contents(path) } else { pack::file(path)? }
    };
    let (bytes, trouble) = bytes.split();
    let path = format!("/v1/images/load?{}", query.join("&"));
    match context.client.upload(Method::POST, &path, bytes).await {
        Ok(answers) => take_in(context, answers).await,
        Err(failure) => Err(trouble.or(failure)),
    }
}

/// Shows how an image comes in, then what came.
async fn take_in(context: &Context, mut answers: Answers<Progress>) -> Result<u8, Error> {
    let mut bars = Bars::new(context);
    let images = loop {
        match answers.next().await.transpose()? {
            Some(Progress::Part { part, phase, done_bytes, total_bytes }) => {
                bars.show(&part, &phase, done_bytes, total_bytes);
            }
            Some(Progress::Done { images }) => break images,
            Some(Progress::Failed { failure }) => {
                bars.clear();
                return Err(failure.into());
            }
            None => {
                bars.clear();
                let message = "the server ended before the image was in";
                return Err(Error::new(
                    Code::Unreachable,
                    message,
                    "see whether `lith up` still runs, then repeat",
                ));
            }
        }
    };
    bars.clear();
    if context.json {
        context.print_json(&images)?;
    } else {
        for image in &images {
            context.say(&stored(image));
        }
    }
    Ok(exit::DONE)
}

fn stored(image: &Image) -> String {
    let what = format!("({}, {})", short_digest(&image.digest), size(image.size_bytes));
    if image.names.is_empty() {
        return format!(
            "stored an image without a name {what}; load it again with `--name NAME` to give it one"
        );
    }
    format!("stored {} {what}", image.names.join(", "))
}

/// Removes all that are named and goes on after one that cannot be.
async fn remove(context: &Context, images: &[String]) -> Result<u8, Error> {
    let mut all = Collected { removed: vec![], freed_bytes: 0 };
    let mut failures = Failures::new(context);
    for image in images {
        match context.client.delete::<Collected>(&format!("/v1/images/{}", escape(image))).await {
            Ok(collected) => {
                if collected.removed.is_empty() && !context.json {
                    context.say(&format!("removed the name {image}; the image has others"));
                }
                all.removed.extend(collected.removed);
                all.freed_bytes = all.freed_bytes.saturating_add(collected.freed_bytes);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if context.json {
        context.print_json(&all)?;
    } else if !all.removed.is_empty() {
        context.say(collected_text(&all).trim_end());
    }
    failures.end()
}

/// Failures of a command that goes on: all are said, and the last one ends it.
struct Failures<'a> {
    context: &'a Context,
    last: Option<Failure>,
}

impl<'a> Failures<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, last: None }
    }

    fn push(&mut self, failure: Failure) {
        if let Some(earlier) = self.last.replace(failure) {
            let text = crate::error::failure_text(&earlier, &[], self.context.terminal.stderr);
            crate::context::say(text.trim_end());
        }
    }

    fn end(self) -> Result<u8, Error> {
        self.last.map_or(Ok(exit::DONE), |failure| Err(failure.into()))
    }
}

async fn collect(context: &Context, all: bool) -> Result<u8, Error> {
    let request = CollectRequest { all };
    let collected: Collected = context.client.post("/v1/images/gc", &request).await?;
    if context.json {
        context.print_json(&collected)?;
    } else if collected.removed.is_empty() && !all {
        context.say("no unused image without a name; `--all` removes unused ones with a name, too");
    } else {
        context.say(collected_text(&collected).trim_end());
    }
    Ok(exit::DONE)
}

/// A line per image that is gone, and what that brought.
fn collected_text(collected: &Collected) -> String {
    let mut text = String::new();
    for image in &collected.removed {
        let name = if image.names.is_empty() { "an image without a name" } else { &image.names.join(", ") };
        text.push_str(&format!(
            "removed {name} ({}, {})\n",
            short_digest(&image.digest),
            size(image.freed_bytes)
        ));
    }
    match collected.removed.len() {
        0 => text.push_str("no image was removed\n"),
        1 => {}
        count => text.push_str(&format!("{count} images, {} are free again\n", size(collected.freed_bytes))),
    }
    text
}

/// Verifies all that are named and goes on after a damaged one, so that one run finds them all.
async fn verify(context: &Context, images: &[String]) -> Result<u8, Error> {
    let images = if images.is_empty() {
        let all: Vec<Image> = context.client.get("/v1/images").await?;
        all.into_iter().map(|image| image.digest).collect()
    } else {
        images.to_vec()
    };
    let mut whole: Vec<Image> = Vec::new();
    let mut failures = Failures::new(context);
    for image in &images {
        let path = format!("/v1/images/{}/verify", escape(image));
        let spinner = Spinner::new(context.talk(), &format!("reading {}", short_digest(image)));
        let verified = context.client.post::<Image>(&path, &serde_json::json!({})).await;
        drop(spinner);
        match verified {
            Ok(image) => {
                if !context.json {
                    let name = image.names.first().unwrap_or(&image.digest);
                    context.print(&format!("{name}: as it should be\n"))?;
                }
                whole.push(image);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if context.json {
        context.print_json(&whole)?;
    }
    failures.end()
}

fn image_table(images: &[Image], now_ms: u64) -> Table {
    let mut table = Table::new(&["IMAGE", "DIGEST", "SIZE", "MADE", "PLATFORM", "USED"]);
    for image in images {
        let made = image.created.as_ref().and_then(|created| created.parse::<jiff::Timestamp>().ok());
        let made_ms = made.and_then(|made| u64::try_from(made.as_millisecond()).ok());
        let cells = |name: &str| {
            vec![
                name.to_owned(),
                short_digest(&image.digest),
                size(image.size_bytes),
                made_ms.map_or(String::new(), |made_ms| time::ago(now_ms, made_ms)),
                if image.is_damaged { "damaged".to_owned() } else { image.platform.clone() },
                if image.is_used { "yes" } else { "no" }.to_owned(),
            ]
        };
        if image.names.is_empty() {
            table.row(cells("-"));
        }
        for name in &image.names {
            table.row(cells(name));
        }
    }
    table
}

fn short_digest(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(DIGEST_CHARS).collect()
}

/// A bar per part; nothing when nobody watches.
struct Bars {
    screen: Option<MultiProgress>,
    bars: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn new(context: &Context) -> Self {
        Self { screen: context.is_watched().then(MultiProgress::new), bars: BTreeMap::new() }
    }

    fn show(&mut self, part: &str, phase: &str, done_bytes: u64, total_bytes: Option<u64>) {
        let Some(screen) = &self.screen else { return };
        let bar = self.bars.entry(part.to_owned()).or_insert_with(|| {
            let bar = screen.add(ProgressBar::new(0));
            bar.set_prefix(part.to_owned());
            bar
        });
        let template = match total_bytes {
            Some(_) => "{prefix:14} {msg:12} [{bar:30}] {binary_bytes}/{binary_total_bytes}",
            None => "{prefix:14} {msg:12} {binary_bytes}",
        };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        bar.set_style(style.progress_chars("=> "));
        bar.set_length(total_bytes.unwrap_or(0));
        bar.set_position(done_bytes);
        bar.set_message(phase.to_owned());
    }

    fn clear(&self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;
    use lith_api::image::Removed;

    fn image() -> Image {
        Image {
            digest: "sha256:0123456789abcdef".to_owned(),
            names: vec!["hello:1".to_owned(), "hello:latest".to_owned()],
            size_bytes: 45 << 20,
            created: Some("1970-01-01T00:00:00Z".to_owned()),
            platform: "linux/amd64".to_owned(),
            is_used: true,
            is_damaged: false,
        }
    }

    #[test]
    fn images_read_without_colour() {
        let nameless = Image { names: vec![], is_used: false, created: None, ..image() };
        let damaged = Image { names: vec!["broken:1".to_owned()], is_damaged: true, ..nameless.clone() };
        let table = image_table(&[image(), nameless, damaged], 3 * 86_400_000);
        insta::assert_snapshot!(table.render(None, Paint::PLAIN), @r"
        IMAGE         DIGEST        SIZE      MADE    PLATFORM     USED
        hello:1       0123456789ab  45.0 MiB  3d ago  linux/amd64  yes
        hello:latest  0123456789ab  45.0 MiB  3d ago  linux/amd64  yes
        -             0123456789ab  45.0 MiB          linux/amd64  no
        broken:1      0123456789ab  45.0 MiB          damaged      no
        ");
    }

    #[test]
    fn words() {
        assert_eq!(stored(&image()), "stored hello:1, hello:latest (0123456789ab, 45.0 MiB)");
        let nameless = Image { names: vec![], ..image() };
        assert!(stored(&nameless).ends_with("; load it again with `--name NAME` to give it one"));
        let removed = |names: &[&str]| Removed {
            digest: image().digest,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            freed_bytes: 2048,
        };
        let check = |removed: Vec<Removed>, text: &str| {
            let freed_bytes = 2048 * removed.len() as u64;
            assert_eq!(collected_text(&Collected { removed, freed_bytes }), text);
        };
        check(vec![], "no image was removed\n");
        check(vec![removed(&["a:1", "a:2"])], "removed a:1, a:2 (0123456789ab, 2.0 KiB)\n");
        check(
            vec![removed(&["a:1"]), removed(&[])],
            "removed a:1 (0123456789ab, 2.0 KiB)\nremoved an image without a name (0123456789ab, 2.0 KiB)\n\
             2 images, 4.0 KiB are free again\n",
        );
    }
}
