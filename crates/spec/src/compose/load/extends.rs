//! `extends`: a service that is another one, and more.
//!
//! Owns finding the other service, in this file or another, and refuses circles. Each service is made once. Must not judge
//! what services say.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use lith_core::value::quoted;

use super::decode::decode;
use super::loader::Loader;
use super::merge;
use super::paths;
use super::shape::meant;
use super::tree::{Data, Value};
use super::unique;
use super::variables::Scope;
use crate::diagnostic::Code;
use crate::document::Span;

/// Longest chain of services that extend each other: no person follows more, and each step of it is one of the stack.
const CHAIN_MAX: usize = 32;

/// Services of one file.
struct Pool {
    services: HashMap<Rc<str>, Value>,
    done: HashSet<Rc<str>>,
}

/// The extending of one file's services.
pub(super) struct Extender<'e, 'a> {
    loader: &'e mut Loader<'a>,
    scope: &'e Scope,
    pools: Vec<Pool>,
    /// Pools of other files by path; `None` for one that cannot be read.
    by_path: HashMap<String, Option<usize>>,
}

/// A service in a pool.
type Place = (usize, Rc<str>);

/// Makes every service of a file whole.
pub(super) fn extend(root: &mut Value, scope: &Scope, loader: &mut Loader<'_>) {
    let Data::Map(members) = &mut root.data else { return };
    let Some(section) = members.iter_mut().find(|member| &*member.key.text == "services") else { return };
    let Data::Map(services) = &mut section.value.data else { return };
    if services.iter().all(|service| service.value.get("extends").is_none()) {
        return;
    }
    let pool = services.iter().map(|service| (Rc::clone(&service.key.text), service.value.clone()));
    let pool = Pool { services: pool.collect(), done: HashSet::new() };
    let mut extender = Extender { loader, scope, pools: vec![pool], by_path: HashMap::new() };
    for service in services.iter() {
        extender.finish((0, Rc::clone(&service.key.text)), &mut Vec::new());
    }
    let mut finished = extender.pools.swap_remove(0).services;
    for service in services {
        if let Some(value) = finished.remove(&service.key.text) {
            service.value = value;
        }
    }
}

impl Extender<'_, '_> {
    /// Makes one service whole, and those that it extends before it.
    fn finish(&mut self, place: Place, chain: &mut Vec<Place>) {
        let (pool, name) = &place;
        if self.pools[*pool].done.contains(name) {
            return;
        }
        let Some(service) = self.pools[*pool].services.get(name).cloned() else { return };
        let Some(extends) = service.member("extends").cloned() else {
            self.pools[*pool].done.insert(Rc::clone(name));
            return;
        };
        let whole = self.whole(&place, service, &extends.value, chain);
        let pool = &mut self.pools[place.0];
        pool.services.insert(Rc::clone(&place.1), whole);
        pool.done.insert(place.1);
    }

    /// The service over the one that it extends.
    fn whole(&mut self, place: &Place, mut service: Value, extends: &Value, chain: &mut Vec<Place>) -> Value {
        // Where it fails, `extends` stays, and whoever reads the service knows that it is not whole.
        let Some(base_place) = self.base_of(place, extends) else { return service };
        chain.push(place.clone());
        let is_circle = chain.contains(&base_place);
        if is_circle || chain.len() > CHAIN_MAX {
            let (code, message) = if is_circle {
                (Code::Circle, format!("the service {} extends itself in the end", quoted(&place.1)))
            } else {
                (Code::TooDeep, format!("more than {CHAIN_MAX} services extend one another here"))
            };
            self.loader.reporter.error(code, extends.span, message, "let one of them stand by itself");
            chain.pop();
            return service;
        }
        self.finish(base_place.clone(), chain);
        chain.pop();
        let base = self.pools[base_place.0].services.get(&base_place.1).cloned();
        let Some(mut base) = base.filter(|base| !base.is_null()) else { return service };
        if base.get("extends").is_some() || !self.loader.spend(base.count(), extends.span) {
            return service;
        }
        service.take("extends");
        merge::settle(&mut base);
        merge::clear_tagged(&mut base, &service);
        let key_span = service.span;
        let mut path = vec![Rc::from("services"), Rc::clone(&place.1)];
        let mut whole = merge::merge(base, service, &mut path, self.loader.reporter);
        whole.span = key_span;
        whole
    }

    /// Which service `extends` means.
    fn base_of(&mut self, place: &Place, extends: &Value) -> Option<Place> {
        let name_value = if extends.text().is_some() { extends } else { extends.get("service")? };
        let name = name_value.text()?;
        let pool = match extends.given("file") {
            Some(file) => self.pool_of(file.text()?, file.span)?,
            None => place.0,
        };
        let services = &self.pools[pool].services;
        if let Some((name, _)) = services.get_key_value(name) {
            return Some((pool, Rc::clone(name)));
        }
        let message = format!("no service {} is there to be extended", quoted(name));
        let known = services.keys().map(|name| &**name);
        let near = if self.loader.reporter.is_full() { None } else { meant(name, known) };
        let hint = match near {
            Some(known) => format!("did you mean `{known}`?"),
            None => String::from("name a service of the same file, or say which `file` it is in"),
        };
        self.loader.reporter.error(Code::UnknownReference, name_value.span, message, hint);
        None
    }

    /// The services of another file.
    fn pool_of(&mut self, path: &str, span: Span) -> Option<usize> {
        let path = self.loader.resolve(path, span);
        if let Some(pool) = self.by_path.get(&path) {
            return *pool;
        }
        let pool = self.open(&path, span);
        self.by_path.insert(path, pool);
        pool
    }

    fn open(&mut self, path: &str, span: Span) -> Option<usize> {
        let file = self.loader.open(path, &paths::folder(path), span)?;
        let document = self.loader.documents(file).pop()?;
        let mut root = decode(&document, self.scope, self.loader);
        merge::settle(&mut root);
        unique::unify(&mut root);
        let services = root.take("services").map(|member| member.value);
        let Some(Value { data: Data::Map(services), .. }) = services else {
            let message = format!("the file {} has no services", quoted(path));
            self.loader.reporter.error(Code::UnknownReference, span, message, None);
            return None;
        };
        let services = services.into_iter().map(|member| (member.key.text, member.value)).collect();
        self.pools.push(Pool { services, done: HashSet::new() });
        Some(self.pools.len() - 1)
    }
}
