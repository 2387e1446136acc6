//! SQL as functions: a text that is fixed when chatd is compiled, with typed parameters and columns.
//!
//! Diesel prepares its `sql_query` anew each time. A statement made here has an identity of its own, so that
//! diesel keeps it prepared on each connection. Functions take a shared connection: those that are polled
//! together (`futures_util::join!`, which polls in the order written; tokio's does not) travel together, and
//! the server runs them in that order.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use std::io::Write;
use uuid::Uuid;

/// Sixteen bytes in a column of type `uuid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SqlUuid)]
pub(super) struct Id(pub(super) Uuid);

impl ToSql<SqlUuid, Pg> for Id {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<SqlUuid, Pg> for Id {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Uuid::from_slice(value.as_bytes())?))
    }
}

/// A Rust type with the one SQL type that it stands for; rows are tuples of them, and may be nested. A slice
/// is an array.
pub(super) trait Column {
    /// The SQL type.
    type Sql;
}

macro_rules! columns {
    ($($rust:ty => $sql:ty),+ $(,)?) => {
        $(
            impl Column for $rust {
                type Sql = $sql;
            }
            impl Column for Option<$rust> {
                type Sql = Nullable<$sql>;
            }
            impl Column for &[$rust] {
                type Sql = Array<$sql>;
            }
            impl Column for &[Option<$rust>] {
                type Sql = Array<Nullable<$sql>>;
            }
        )+
    };
}
columns!(
    i64 => BigInt,
    i32 => Integer,
    bool => Bool,
    Id => SqlUuid,
    &str => Text,
    String => Text,
    &[u8] => Binary,
);

impl Column for Vec<u8> {
    type Sql = Binary;
}

impl Column for Vec<i64> {
    type Sql = Array<BigInt>;
}

impl Column for Vec<String> {
    type Sql = Array<Text>;
}

macro_rules! rows {
    ($($column:ident)+) => {
        impl<$($column: Column),+> Column for ($($column,)+) {
            type Sql = ($($column::Sql,)+);
        }
    };
}
rows!(A);
rows!(A B);
rows!(A B C);
rows!(A B C D);
rows!(A B C D E);
rows!(A B C D E F);
rows!(A B C D E F G);
rows!(A B C D E F G H);
rows!(A B C D E F G H I);
rows!(A B C D E F G H I J K);
rows!(A B C D E F G H I J K L M);
rows!(A B C D E F G H I J K L M N O P Q R);

/// Makes an async function of a statement. Each `?` of the text takes the next parameter, which is `$1`, `$2` …
/// wherever it is meant again; references in parameters are written `&'a`. With `-> (A, B)` the function returns all rows as such tuples, without it the
/// number of changed rows.
macro_rules! statement {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $row:ty = $sql:expr) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "the parameters of a statement")]
        #[allow(clippy::needless_lifetimes, reason = "without borrowed parameters")]
        pub(super) async fn $name<'a>(
            conn: &'a diesel_async::AsyncPgConnection,
            $($arg: $type),*
        ) -> diesel::QueryResult<Vec<$row>> {
            $crate::storage::postgres::statement::statement!(@define [$($arg: $type),*] $sql);
            impl diesel::query_builder::Query for Statement<'_> {
                type SqlType = <$row as $crate::storage::postgres::statement::Column>::Sql;
            }
            let mut conn = conn;
            let statement = Statement { $($arg,)* _borrows: std::marker::PhantomData };
            diesel_async::RunQueryDsl::load(statement, &mut conn).await
        }
    };
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $sql:expr) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "the parameters of a statement")]
        #[allow(clippy::needless_lifetimes, reason = "without borrowed parameters")]
        pub(super) async fn $name<'a>(
            conn: &'a diesel_async::AsyncPgConnection,
            $($arg: $type),*
        ) -> diesel::QueryResult<usize> {
            $crate::storage::postgres::statement::statement!(@define [$($arg: $type),*] $sql);
            let mut conn = conn;
            let statement = Statement { $($arg,)* _borrows: std::marker::PhantomData };
            diesel_async::RunQueryDsl::execute(statement, &mut conn).await
        }
    };
    (@define [$($arg:ident: $type:ty),*] $sql:expr) => {
        struct Statement<'a> {
            $($arg: $type,)*
            _borrows: std::marker::PhantomData<&'a ()>,
        }
        impl diesel::query_builder::QueryId for Statement<'_> {
            type QueryId = Statement<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }
        impl<'a> diesel::query_builder::QueryFragment<diesel::pg::Pg> for Statement<'a> {
            #[allow(unused_assignments, unused_mut, unused_variables, reason = "without parameters")]
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                let mut parts = $sql.split('?');
                out.push_sql(parts.next().unwrap_or_default());
                $(
                    out.push_bind_param::<<$type as $crate::storage::postgres::statement::Column>::Sql, _>(
                        &self.$arg,
                    )?;
                    out.push_sql(parts.next().unwrap_or_default());
                )*
                Ok(())
            }
        }
    };
}
pub(super) use statement;

/// The database's clock, in milliseconds since 1970, as SQL: that of the transaction's first statement.
macro_rules! now_ms {
    () => {
        "floor(extract(epoch FROM now()) * 1000)::bigint"
    };
}
pub(super) use now_ms;
