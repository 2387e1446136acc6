//! The description of REST for machines, made from the handlers themselves: `GET /openapi.json`.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToResponse};

use super::error::{FieldProblem, Problem};
use super::routes::{
    conversations, health, history, lists, me, messages, metrics, presence, root, tickets, users,
};
use crate::chat::wire::{AcceptedFrame, UserRef};
use crate::delivery::frame::{DeletedFrame, EditedFrame, MessageFrame};

/// Paths that answer as another one does.
const ALIASES: [(&str, &str); 3] = [("/livez", "/health"), ("/healthz", "/health"), ("/readyz", "/ready")];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "chatd",
        description = "A real-time chat server: every accepted message has one provable fate, in one order, on \
            every device. Live events come over the WebSocket; this is the rest.",
    ),
    paths(
        root::about,
        root::not_upgraded,
        document,
        health::health,
        health::ready,
        metrics::metrics,
        history::messages,
        me::me,
        presence::presence,
        me::change,
        users::named,
        users::user,
        lists::conversations,
        lists::conversation,
        conversations::messages,
        conversations::events,
        conversations::read,
        messages::send,
        tickets::issue,
    ),
    components(
        schemas(Problem, FieldProblem, UserRef, AcceptedFrame, MessageFrame, EditedFrame, DeletedFrame),
        responses(ErrorAnswer),
    ),
    modifiers(&Completed),
)]
struct Described;

/// Every error: `application/problem+json` (RFC 9457), with `x-request-id`. 401 has `WWW-Authenticate`, 405
/// `Allow`, 429 and 503 `Retry-After`.
#[derive(ToResponse)]
#[response(content_type = "application/problem+json")]
#[expect(dead_code, reason = "stands for an answer in the document only")]
pub struct ErrorAnswer(Problem<'static>);

struct Completed;

impl Modify for Completed {
    fn modify(&self, document: &mut Document) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        for (alias, path) in ALIASES {
            if let Some(mut item) = document.paths.paths.get(path).cloned() {
                // An operation's id is unique in a document.
                item.get.iter_mut().for_each(|operation| operation.operation_id = None);
                document.paths.paths.insert(alias.to_owned(), item);
            }
        }
    }
}

static JSON: LazyLock<String> = LazyLock::new(|| Described::openapi().to_json().unwrap_or_default());

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operations", operation_id = "openapi",
    responses((status = 200, description = "An OpenAPI document", body = Object)),
)]
pub async fn document() -> HttpResponse {
    HttpResponse::Ok().insert_header(ContentType::json()).body(JSON.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::{Surface, endpoints};

    #[test]
    fn the_document_names_exactly_what_exists() {
        let existing: BTreeSet<(String, &str)> = endpoints(Surface::Public)
            .iter()
            .flat_map(|endpoint| {
                endpoint.methods().iter().map(|method| (endpoint.path().to_owned(), *method))
            })
            .filter(|(_, method)| *method != "HEAD")
            .collect();
        let mut described = BTreeSet::new();
        for (path, item) in Described::openapi().paths.paths {
            let methods = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ];
            let here = methods.into_iter().filter(|(_, operation)| operation.is_some());
            described.extend(here.map(|(method, _)| (path.clone(), method)));
        }
        assert_eq!(existing, described);
    }

    #[test]
    fn the_document_is_whole() {
        let document: serde_json::Value = serde_json::from_str(&JSON).unwrap();
        let text = JSON.as_str();
        for reference in text.split(r##""$ref":"#"##).skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
        }
        let mut ids = BTreeSet::new();
        for id in text.split(r#""operationId":""#).skip(1) {
            assert!(ids.insert(id.split('"').next().unwrap()), "an operation id stands twice");
        }
    }
}
