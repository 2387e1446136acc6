//! REST: routes, extractors, one table of errors. Knows nothing of the WebSocket room: `roles` puts both into
//! one server.

pub mod endpoint;
pub mod error;
pub mod extract;
pub mod middleware;
pub mod openapi;
pub mod query;
pub mod routes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App as Actix, HttpResponse};

use crate::app::App;
use crate::domain::{Error, ErrorCode};
use endpoint::Endpoint;

/// What REST wants of the configuration.
#[derive(Clone)]
pub struct HttpSettings {
    /// Origins whose pages may call: the public URL's own and `http.allowed_origins`, as in
    /// `https://example.test`.
    pub allowed_origins: Vec<String>,
    /// Whether `/ready` gives its reasons: in development, and on the admin address.
    pub details: bool,
    /// The text of `/metrics` (Prometheus); `None` where this listener has no such path.
    pub metrics: Option<Metrics>,
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How deep arrays and objects of a body may lie in each other.
    pub json_depth_max: usize,
    /// chatd's own version.
    pub version: &'static str,
}

/// Renders the metrics as they stand.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

impl HttpSettings {
    /// The limits of protocol.md section 1, details and metrics closed, no other origin.
    pub fn closed() -> Self {
        Self {
            allowed_origins: Vec::new(),
            details: false,
            metrics: None,
            body_bytes_max: 65_536,
            body_timeout: Duration::from_secs(30),
            json_depth_max: crate::chat::wire::DEPTH_MAX,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings")
            .field("allowed_origins", &self.allowed_origins)
            .field("details", &self.details)
            .field("metrics", &self.metrics.is_some())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Which paths a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// Everything for clients.
    Public,
    /// Health, readiness and metrics only: `http.admin_bind`, and a process without sockets.
    Admin,
}

/// Every path of a surface.
pub fn endpoints(surface: Surface) -> Vec<Endpoint> {
    match surface {
        Surface::Admin => routes::operations(),
        Surface::Public => routes::operations().into_iter().chain(routes::clients()).collect(),
    }
}

/// The actix application of a listener. `sockets` registers what else it has, before the paths of REST, so
/// that a resource with a guard (`Upgrade`) may share a path with one of them.
///
/// actix-http answers some requests before anything here sees them, without a body, and closes: a head that
/// does not arrive in time (408), one beyond 128 KiB or 96 headers (431), and what is no HTTP (400). A head
/// between 16 KiB and those limits, a slow body and a large one get the shape of every error.
pub fn create(
    app: Arc<App>,
    settings: HttpSettings,
    surface: Surface,
    sockets: impl FnOnce(&mut ServiceConfig),
) -> Actix<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let cors = middleware::cors(&settings.allowed_origins);
    Actix::new()
        .app_data(Data::<App>::from(app))
        .app_data(Data::new(settings))
        .configure(sockets)
        .configure(|config| {
            for endpoint in endpoints(surface) {
                config.service(endpoint.resource());
            }
        })
        .default_service(web::to(no_such_path))
        .wrap(cors)
        .wrap(actix_web::middleware::from_fn(middleware::envelope))
}

async fn no_such_path() -> HttpResponse {
    HttpResponse::from_error(Error::new(ErrorCode::NotFound, "no such path"))
}
