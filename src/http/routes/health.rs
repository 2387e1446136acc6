//! Whether the process lives, and whether it can do its work.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::{Data, Json};
use serde::Serialize;

use crate::app::App;
use crate::app::health::Readiness;
use crate::http::HttpSettings;

/// How long storage may take to answer: less than the usual patience of a prober.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// The process lives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// The version of chatd.
    version: &'static str,
}

/// Whether it lives.
#[utoipa::path(
    get, path = "/health", tag = "Operations", operation_id = "health",
    description = "The same as `/livez` and `/healthz`. Asks no dependency: a restart would not bring one back.",
    responses((status = 200, description = "It lives", body = Health)),
)]
pub async fn health(settings: Data<HttpSettings>) -> Json<Health> {
    Json(Health { status: "ok", version: settings.version })
}

/// How ready this node is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ready {
    /// `ok` or `degraded`; with 503: `starting`, `draining` or `unavailable` (storage does not answer).
    #[schema(example = "ok")]
    status: &'static str,
    /// What is wrong, in development and on the admin address.
    #[serde(skip_serializing_if = "Option::is_none")]
    alarms: Option<Vec<Alarm>>,
}

/// Something that is wrong now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Alarm {
    /// What is concerned.
    #[schema(example = "storage")]
    subject: String,
    /// Why.
    reason: String,
}

/// Whether it can do its work.
#[utoipa::path(
    get, path = "/ready", tag = "Operations", operation_id = "ready",
    description = "The same as `/readyz`. Asks storage, for at most 2 s.",
    responses(
        (status = 200, description = "`ok`, or `degraded`: it works, and something is wrong", body = Ready),
        (status = 503, description = "Send nobody here: `starting`, `draining` or `unavailable`", body = Ready),
    ),
)]
pub async fn ready(app: Data<App>, settings: Data<HttpSettings>) -> HttpResponse {
    let (code, status) = match app.health.readiness() {
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Readiness::Ok | Readiness::Degraded if !storage_answers(&app).await => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
        Readiness::Ok => (StatusCode::OK, "ok"),
        Readiness::Degraded => (StatusCode::OK, "degraded"),
    };
    let alarm = |(subject, reason)| Alarm { subject, reason };
    let alarms = settings.details.then(|| app.health.alarms().into_iter().map(alarm).collect());
    let mut answer = HttpResponse::build(code);
    if code == StatusCode::SERVICE_UNAVAILABLE {
        answer.insert_header((RETRY_AFTER, "1"));
    }
    answer.json(Ready { status, alarms })
}

/// The cheapest question there is: one row, read by its key.
async fn storage_answers(app: &App) -> bool {
    answers(app.storage.incarnation()).await
}

async fn answers<T, E>(question: impl Future<Output = Result<T, E>>) -> bool {
    matches!(tokio::time::timeout(STORAGE_TIMEOUT, question).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn storage_that_fails_or_stays_silent_does_not_answer() {
        assert!(answers(ready(Ok::<_, ()>(1))).await);
        assert!(!answers(ready(Err::<(), _>(1))).await);
        let started = tokio::time::Instant::now();
        assert!(!answers(pending::<Result<(), ()>>()).await);
        assert_eq!(started.elapsed(), STORAGE_TIMEOUT);
    }
}
