//! The numbers, for Prometheus.

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::{Error, ErrorCode};
use crate::http::HttpSettings;

/// The version of the text format that Prometheus reads.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics.
#[utoipa::path(
    get, path = "/metrics", tag = "Operations", operation_id = "metrics",
    description = "In Prometheus' text format; under production rules on the admin address only.",
    responses(
        (status = 200, description = "Every metric", body = String, content_type = "text/plain"),
        (status = 404, response = crate::http::openapi::ErrorAnswer),
    ),
)]
pub async fn metrics(settings: Data<HttpSettings>) -> Result<HttpResponse, Error> {
    match &settings.metrics {
        Some(render) => Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).body(render())),
        None => Err(Error::new(ErrorCode::NotFound, "no such path")),
    }
}
