//! The names of keys and channels, and the scripts that do on them what has to be one step.

use crate::redis::Generation;

/// A member of every whole set of users, and the id of no user.
pub(super) const MARK: i64 = 0;

/// Marks a set of users that is whole, and takes the lease. KEYS: the set, `nodes`, the lease, what lingers. ARGV: the
/// generation, the node, how many users there have to be, how long lease, set and what lingers live, in milliseconds;
/// 0 where nothing lingers.
pub(super) const REGISTER: &str = "\
if redis.call('SCARD', KEYS[1]) ~= tonumber(ARGV[3]) then return 0 end
redis.call('SADD', KEYS[1], '0')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[4])
if tonumber(ARGV[6]) > 0 then redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[6]) end
return 1";

/// Renews the lease where it is still this generation's, and its set of users still whole. As `REGISTER`.
pub(super) const RENEW: &str = "\
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
if redis.call('SISMEMBER', KEYS[1], '0') == 0 then return 0 end
if redis.call('SCARD', KEYS[1]) ~= tonumber(ARGV[3]) + 1 then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
if tonumber(ARGV[6]) > 0 then redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[6]) end
return 1";

/// Gives the lease up where it is this generation's; who was there lingers. KEYS: the set, `nodes`, the lease, what
/// lingers. ARGV: the generation, the node, for how long, in milliseconds.
pub(super) const UNREGISTER: &str = "\
if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  redis.call('UNLINK', KEYS[1])
  return 1
end
redis.call('UNLINK', KEYS[3])
if tonumber(ARGV[3]) > 0 then
  redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[3] + 1000)
else
  redis.call('UNLINK', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[2])
end
return 1";

/// The nodes that hold a lease or linger, each followed by its generation and by 1 where it holds a lease; forgets
/// the others. KEYS: `nodes`. ARGV: what the names of leases begin with, and those of what lingers.
pub(super) const KNOWN: &str = "\
local known = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local lease = redis.call('GET', ARGV[1] .. node)
  local generation = lease or redis.call('GET', ARGV[2] .. node)
  if generation then
    known[#known + 1] = node
    known[#known + 1] = generation
    known[#known + 1] = lease and '1' or '0'
  else
    redis.call('SREM', KEYS[1], node)
  end
end
return known";

/// The names that one process uses.
#[derive(Debug)]
pub struct Keys {
    prefix: String,
    node: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, node: &str) -> Self {
        Self { prefix: prefix.to_owned(), node: node.to_owned() }
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A key of an adapter's own.
    pub fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn nodes(&self) -> String {
        self.named("nodes")
    }

    pub(super) fn leases(&self) -> String {
        self.named("lease:")
    }

    pub(super) fn lease(&self) -> String {
        self.leases() + &self.node
    }

    pub(super) fn lingering(&self) -> String {
        self.named("linger:")
    }

    pub(super) fn linger(&self) -> String {
        self.lingering() + &self.node
    }

    pub(super) fn users(&self, node: &str, generation: Generation) -> String {
        self.named(&format!("users:{node}:{generation}"))
    }

    pub(super) fn own_users(&self, generation: Generation) -> String {
        self.users(&self.node, generation)
    }

    pub(super) fn channel(&self, node: &str) -> String {
        self.named(&format!("node:{node}"))
    }
}
