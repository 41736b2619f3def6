//! One model: several files over one another, with what they include and extend.
//!
//! Owns the order of these steps. Must not read typed values.

use std::rc::Rc;

use super::decode::decode;
use super::extends::extend;
use super::include::include;
use super::loader::{EXAMPLE, Loader};
use super::merge;
use super::schema;
use super::shape;
use super::tree::{Class, Data, Scalar, Value};
use super::unique;
use super::variables::Scope;
use crate::diagnostic::Code;
use crate::document::Node;

/// Lays documents over one another; `chain` are the files that include these, by path.
pub(super) fn model(
    documents: &[Rc<Node>],
    scope: &Scope,
    chain: &mut Vec<String>,
    loader: &mut Loader<'_>,
) -> Option<Value> {
    let mut model: Option<Value> = None;
    for document in documents {
        let mut root = decode(document, scope, loader);
        let Data::Map(_) = &root.data else {
            let (code, message) = match &root.data {
                Data::Null => (Code::Empty, String::from("the file holds nothing")),
                _ => (Code::WrongType, format!("a Compose file is a mapping, not {}", root.noun())),
            };
            loader.reporter.error(code, root.span, message, EXAMPLE);
            continue;
        };
        include(&mut root, scope, chain, loader);
        if let Some(earlier) = &mut model {
            merge::clear_tagged(earlier, &root);
        }
        extend(&mut root, scope, loader);
        merge::settle(&mut root);
        if !loader.spend(root.count(), root.span) {
            return None;
        }
        let mut merged = match model.take() {
            Some(earlier) => merge::merge(earlier, root, &mut Vec::new(), loader.reporter),
            None => root,
        };
        unique::unify(&mut merged);
        shape::check(&merged, &schema::FILE, "the file", loader.reporter);
        merged.take("version");
        model = Some(merged);
    }
    let mut model = model?;
    fill_lists(&mut model, scope, loader);
    Some(model)
}

/// Gives the variables that a list of `environment` only names their values, where the files' own scope has them.
fn fill_lists(model: &mut Value, scope: &Scope, loader: &mut Loader<'_>) {
    let Data::Map(sections) = &mut model.data else { return };
    let services = sections.iter_mut().filter(|section| &*section.key.text == "services");
    for services in services {
        let Data::Map(services) = &mut services.value.data else { continue };
        for service in services {
            let Data::Map(members) = &mut service.value.data else { continue };
            let lists = members.iter_mut().filter(|member| &*member.key.text == "environment");
            for list in lists {
                let Data::List(items) = &mut list.value.data else { continue };
                for item in items {
                    fill_item(item, scope, loader);
                }
            }
        }
    }
}

fn fill_item(item: &mut Value, scope: &Scope, loader: &mut Loader<'_>) {
    let Some(name) = item.text().filter(|text| !text.contains('=')) else { return };
    let Some(value) = scope.get(name).filter(|value| loader.charge(value.len(), item.span)) else { return };
    loader.used.note(name, item.span, super::variables::Use::Optional, true);
    let text = format!("{name}={value}").into();
    item.data = Data::Scalar(Scalar { text, class: Class::Text });
}
