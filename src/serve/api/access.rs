//! Who asks, and what that lets them see: a tenant its own things and those of public tenants, an operator the whole server.
//! Without keys there is one user, who is both.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::{ApiError, Server};
use crate::request::TenantId;

/// The tenant for whom pictures are drawn.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) id: TenantId,
    /// None without keys.
    pub(super) name: Option<String>,
}

/// The key that a request presents: a handler that takes one is not reached without a key, where there are keys.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Its place among the keys; 0 without keys.
    pub(super) key: usize,
    /// Its tenant; none for an operator's key whose tenant has no key that draws.
    tenant: Option<Caller>,
    /// Whether it sees the whole server.
    pub(super) operator: bool,
}

impl FromRequestParts<Arc<Server>> for Access {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        let Some(keys) = &server.keys else {
            return Ok(Self { key: 0, tenant: Some(Caller { id: TenantId(0), name: None }), operator: true });
        };
        let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = given.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let found = key.and_then(|(_, key)| keys.find(key.trim()));
        let (key, known) = found.ok_or_else(|| ApiError::no_key(given.is_some()))?;
        let caller = |id| Caller { id, name: Some(known.tenant.clone()) };
        Ok(Self { key, tenant: server.usage.keys[key].tenant.map(caller), operator: known.operator })
    }
}

impl Access {
    /// The tenant for whom pictures are drawn.
    ///
    /// # Errors
    /// It is an operator's key without one.
    pub(super) fn caller(&self) -> Result<&Caller, ApiError> {
        self.tenant.as_ref().ok_or_else(ApiError::looks_on)
    }

    /// The name of the tenant, if there are keys and this one has one.
    fn name(&self) -> Option<&str> {
        self.tenant.as_ref()?.name.as_deref()
    }
}

/// A key of a tenant.
impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        Access::from_request_parts(parts, server).await?.caller().cloned()
    }
}

/// A key of an operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator;

impl FromRequestParts<Arc<Server>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        let access = Access::from_request_parts(parts, server).await?;
        if access.operator { Ok(Self) } else { Err(ApiError::operators_alone()) }
    }
}

impl Server {
    /// Whether a result is this tenant's own. What nobody is known to have asked for is nobody's.
    pub(super) fn owns(&self, access: &Access, owner: Option<&str>) -> bool {
        self.keys.is_none() || owner.is_some_and(|owner| access.name() == Some(owner))
    }

    /// Whether a result may be looked at.
    pub(super) fn may_see(&self, access: &Access, owner: Option<&str>) -> bool {
        self.owns(access, owner) || owner.is_some_and(|owner| self.public.iter().any(|public| public == owner))
    }

    /// Whether a cached picture may be looked at.
    pub(super) fn may_see_cached(&self, access: &Access, owner: Option<&str>) -> bool {
        access.operator || self.may_see(access, owner)
    }

    /// Whether a cached picture may be deleted: by an operator, or the tenant that it was made for.
    pub(super) fn may_delete(&self, access: &Access, owner: Option<&str>) -> bool {
        access.operator || self.owns(access, owner)
    }

    /// Tenants whose cached pictures are listed; `None` for everybody's.
    pub(super) fn listed<'a>(&'a self, access: &'a Access) -> Option<Vec<&'a str>> {
        if access.operator {
            return None;
        }
        let mut tenants: Vec<&str> = self.public.iter().map(String::as_str).collect();
        tenants.extend(access.name().filter(|own| !self.public.iter().any(|public| public == own)));
        Some(tenants)
    }
}
