//! The page's text: a template, what is known of each candidate as JSON, and its pictures behind the script, in blocks
//! that the script reads when it needs them.
//!
//! Names come from files that anybody may have written. They reach the page in JSON alone, where `<` is written
//! `\u003c`, and the script puts them into text nodes. Should that fail, the page's policy runs no script but the one
//! with its nonce, which is a hash of all that is on the page: who writes a name cannot know it.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::view::View;
use super::{Ground, Kind, Pictures, Run, Seen};
use crate::picture::base64;

/// Candidates whose pictures are in one block.
const BLOCK: usize = 32;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    include_str!("page/state.js"),
    include_str!("page/parts.js"),
    include_str!("page/choice.js"),
    include_str!("page/pictures.js"),
    include_str!("page/candidate.js"),
    include_str!("page/csv.js"),
    include_str!("page/map.js"),
    include_str!("page/plot.js"),
    include_str!("page/keys.js"),
);

/// What the page says of the run.
pub struct Head<'a> {
    /// The run.
    pub run: &'a Run,
    /// Its folder.
    pub out: &'a Path,
    /// What verdicts hold for.
    pub id: &'a str,
    /// Candidates of the catalogue.
    pub all: u64,
    /// Of the pictures.
    pub side_px: usize,
    /// What the order takes in turn.
    pub kinds: &'a [Kind],
}

/// Writes the page of `seen`, whose scenes are `grounds`.
///
/// # Errors
/// If `file` cannot be written.
pub fn write(file: &mut impl Write, head: &Head<'_>, seen: &[Seen], grounds: &[Ground]) -> Result<()> {
    let (facts, list) = (safe(&facts(head, grounds))?, safe(&list(seen))?);
    let nonce = nonce(&[&facts, &list], seen);
    let (first, rest) = TEMPLATE.split_once("{{").context("the template has no places")?;
    file.write_all(first.as_bytes())?;
    for part in rest.split("{{") {
        let (place, text) = part.split_once("}}").context("a place of the template does not end")?;
        match place {
            "id" => file.write_all(head.id.as_bytes())?,
            "nonce" => file.write_all(nonce.as_bytes())?,
            "style" => file.write_all(STYLE.as_bytes())?,
            "facts" => file.write_all(facts.as_bytes())?,
            "candidates" => file.write_all(list.as_bytes())?,
            "script" => file.write_all(SCRIPT.as_bytes())?,
            "pictures" => blocks(file, seen, grounds)?,
            _ => bail!("the template has a place {place}"),
        }
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// The pictures, an element a block of candidates and an element a scene.
fn blocks(file: &mut impl Write, seen: &[Seen], grounds: &[Ground]) -> Result<()> {
    let mut element = |id: String, value: &Value| -> Result<()> {
        writeln!(file, "<script type=\"application/json\" id=\"{id}\">{}</script>", safe(value)?)?;
        Ok(())
    };
    for (number, block) in seen.chunks(BLOCK).enumerate() {
        element(format!("pictures-{number}"), &block.iter().map(pictures).collect())?;
    }
    for (number, ground) in grounds.iter().enumerate() {
        element(format!("scene-{number}"), &ground.picture.as_ref().map(|png| base64(png)).into())?;
    }
    Ok(())
}

/// JSON in which nothing can end the element that it stands in.
fn safe(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value)?.replace('<', "\\u003c"))
}

fn nonce(texts: &[&str], seen: &[Seen]) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(text.as_bytes());
    }
    for Pictures { view, context, .. } in seen.iter().flat_map(|one| &one.pictures) {
        hasher.update(view).update(context);
    }
    hasher.finalize().to_hex().to_string()
}

fn facts(head: &Head<'_>, grounds: &[Ground]) -> Value {
    let scene = |ground: &Ground| json!({ "name": ground.name, "rows": ground.rows, "cols": ground.cols });
    let Run { settings, .. } = head.run;
    let folder = head.out.canonicalize().unwrap_or_else(|_| head.out.to_owned());
    let kinds: Vec<String> = head.kinds.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
    json!({
        "id": head.id,
        "name": folder.file_name().map(|name| name.to_string_lossy()),
        "program": format!("marscan {}", env!("CARGO_PKG_VERSION")),
        "settings": settings.name,
        "probability": settings.scan.probability,
        "weights": head.run.weights_id().get(..16),
        "all": head.all,
        "side_px": head.side_px,
        "block": BLOCK,
        "kinds": kinds,
        "scenes": grounds.iter().map(scene).collect::<Vec<_>>(),
    })
}

fn list(seen: &[Seen]) -> Vec<Value> {
    let view = |view: &View| json!([view.row0, view.col0, view.step]);
    let one = |one: &Seen| {
        json!({
            "impact": one.candidate.impact,
            "repeat_scene": one.candidate.change.repeat_scene,
            "change_score": one.candidate.change.change_score,
            "view": view(&one.view),
            "context": view(&one.context),
            "why": one.pictures.as_ref().err(),
        })
    };
    seen.iter().map(one).collect()
}

/// View, context, outline and the other scene's picture.
fn pictures(one: &Seen) -> Value {
    let Ok(pictures) = &one.pictures else { return Value::Null };
    json!({
        "view": base64(&pictures.view),
        "context": base64(&pictures.context),
        "outline": pictures.outline.as_ref().map(|outline| &outline.path),
        "beside": pictures.beside.as_ref().map(|png| base64(png)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_cannot_end_its_element() {
        let hostile = "</script><script>alert(1)</script><!--";
        let text = safe(&hostile).unwrap();
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
        assert!(!SCRIPT.contains("</") && !STYLE.contains("</"));
    }
}
