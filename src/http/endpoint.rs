//! A path and what may be done there, said once: for the router, for `Allow`, and for the check that the
//! OpenAPI document names exactly what exists.

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder, Route, guard, web};

use crate::domain::{Error, ErrorCode};

/// A path with its methods.
pub struct Endpoint {
    path: &'static str,
    methods: Vec<&'static str>,
    routes: Vec<Route>,
}

impl Endpoint {
    /// A path that can be read; `HEAD` answers as `GET` without the body (RFC 9110 section 9.3.2).
    pub fn get<F, Args>(path: &'static str, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let route = web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler);
        Self { path, methods: vec!["GET", "HEAD"], routes: vec![route] }
    }

    /// A path that takes something.
    pub fn post<F, Args>(path: &'static str, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        Self { path, methods: vec!["POST"], routes: vec![web::post().to(handler)] }
    }

    /// A path of which parts can be changed, too (RFC 5789).
    pub fn and_patch<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.methods.push("PATCH");
        self.routes.push(web::patch().to(handler));
        self
    }

    /// Where.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// What.
    pub fn methods(&self) -> &[&'static str] {
        &self.methods
    }

    /// The part of the router; any other method is told which ones there are.
    pub fn resource(self) -> Resource {
        let allowed = self.methods.join(", ");
        let refuse = move || {
            let mut answer = HttpResponse::from_error(Error::new(
                ErrorCode::MethodNotAllowed,
                format!("here are: {allowed}"),
            ));
            if let Ok(value) = HeaderValue::from_str(&allowed) {
                answer.headers_mut().insert(ALLOW, value);
            }
            std::future::ready(answer)
        };
        let resource = web::resource(self.path).default_service(web::to(refuse));
        self.routes.into_iter().fold(resource, Resource::route)
    }
}
