//! Whose entries a request may find, and how much of the cache is whose. Tenants that share a cache can probe it for
//! each other's prompts and feed each other images (Attacks on Approximate Caches, USENIX Security '26); those
//! with entries, capacity and eviction of their own cannot. Not authentication: who asks is known before.

use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::request::{Owner, TenantId};

/// Whose entries a request may find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everybody's.
    #[default]
    Shared,
    /// Its tenant's.
    Tenant,
    /// Its tenant's; the public ones if none of those is similar enough.
    TenantThenPublic,
}

/// How tenants share a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenancy {
    /// Whose entries a request may find.
    pub scope: Scope,
    /// Parts of the capacity that are evicted from apart, by owner; nothing is kept for an owner without one.
    /// Empty where all share one.
    pub shares: BTreeMap<Owner, u64>,
    /// Tenants whose images are everybody's.
    pub public: BTreeSet<TenantId>,
}

impl Tenancy {
    /// Whose an image made for a tenant is.
    pub fn owner(&self, tenant: TenantId) -> Owner {
        if self.public.contains(&tenant) { Owner::Public } else { Owner::Tenant(tenant) }
    }

    /// Returns whether a tenant's request may find an image made for another request.
    #[must_use]
    pub fn may_find(&self, tenant: TenantId, made_for: TenantId) -> bool {
        self.places(tenant).contains(&self.index(self.owner(made_for)))
    }

    /// Which index an owner's entries stand in, by the owner it is named after.
    pub(super) fn index(&self, owner: Owner) -> Owner {
        if self.scope == Scope::Shared { Owner::Public } else { owner }
    }

    /// Which part of the capacity an owner's entries fill, likewise.
    pub(super) fn part(&self, owner: Owner) -> Owner {
        if self.shares.is_empty() { Owner::Public } else { owner }
    }

    /// The indexes that a tenant's request is looked up in, in this order until one has a hit.
    pub(super) fn places(&self, tenant: TenantId) -> SmallVec<[Owner; 2]> {
        let own = self.owner(tenant);
        match self.scope {
            Scope::Shared => smallvec![Owner::Public],
            Scope::TenantThenPublic if own != Owner::Public => smallvec![own, Owner::Public],
            Scope::Tenant | Scope::TenantThenPublic => smallvec![own],
        }
    }
}
