//! Access rights of requests. A tenant sees its own data and the pictures of public tenants, an operator the whole
//! server. Without keys there is one user, who is both.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::{ApiError, Server};
use crate::request::TenantId;

/// Tenant for which pictures are generated.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) id: TenantId,
    /// Name of the tenant; `None` without keys.
    pub(super) name: Option<String>,
}

/// Rights of the key that a request presents. If there are keys, a handler that takes this value is not reached without
/// a key.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Place of the key among all keys; 0 without keys.
    pub(super) key: usize,
    /// Tenant of the key; `None` for an operator's key if its name has no key of a tenant.
    tenant: Option<Caller>,
    /// True if the key gives access to the whole server.
    pub(super) operator: bool,
}

impl FromRequestParts<Arc<Server>> for Access {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        let Some(keys) = &server.keys else {
            // A server without keys listens on this machine alone, so that its one user may see everything.
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
    /// Returns the tenant for which pictures are generated.
    ///
    /// # Errors
    /// The key is an operator's, and its name has no key of a tenant.
    pub(super) fn caller(&self) -> Result<&Caller, ApiError> {
        self.tenant.as_ref().ok_or_else(ApiError::looks_on)
    }

    /// Returns the name of the tenant, if there are keys and the key has a tenant.
    fn name(&self) -> Option<&str> {
        self.tenant.as_ref()?.name.as_deref()
    }
}

/// Extraction of the tenant of a request's key.
impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        Access::from_request_parts(parts, server).await?.caller().cloned()
    }
}

/// Key of an operator.
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
    /// Returns whether a result belongs to the tenant of the key. With keys, a result without a known owner belongs to
    /// nobody.
    pub(super) fn owns(&self, access: &Access, owner: Option<&str>) -> bool {
        self.keys.is_none() || owner.is_some_and(|owner| access.name() == Some(owner))
    }

    /// Returns whether the key may see a result.
    pub(super) fn may_see(&self, access: &Access, owner: Option<&str>) -> bool {
        self.owns(access, owner) || owner.is_some_and(|owner| self.public.iter().any(|public| public == owner))
    }

    /// Returns whether the key may see a cached picture.
    pub(super) fn may_see_cached(&self, access: &Access, owner: Option<&str>) -> bool {
        access.operator || self.may_see(access, owner)
    }

    /// Returns whether the key may delete a cached picture: an operator may, and the tenant for which the picture was
    /// made.
    pub(super) fn may_delete(&self, access: &Access, owner: Option<&str>) -> bool {
        access.operator || self.owns(access, owner)
    }

    /// Returns the tenants whose cached pictures are listed; `None` means all tenants.
    pub(super) fn listed<'a>(&'a self, access: &'a Access) -> Option<Vec<&'a str>> {
        if access.operator {
            return None;
        }
        let mut tenants: Vec<&str> = self.public.iter().map(String::as_str).collect();
        tenants.extend(access.name().filter(|own| !self.public.iter().any(|public| public == own)));
        Some(tenants)
    }
}
