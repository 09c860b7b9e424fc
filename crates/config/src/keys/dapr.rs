//! Keys of bindings, as Dapr has them.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::setting::settings;
use forebay_guard::secure::Secret;

settings! {
    /// `[dapr]`
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Dapr in Dapr {
        restart app_id: Option<String> => Text, From("the environment variable `APP_ID`"), shown "\"myapp\"",
            "ID of the application: the client ID of bindings without `consumerID`, and `{appID}` in documents.";
        restart http: Option<SocketAddr> => AddressOrOff, Is("\"127.0.0.1:3500\""),
            "Address at which the application finds Dapr's HTTP API (`DAPR_HTTP_PORT`); `\"off\"`: it is not served. With `sockets` it is off unless it is set: the \
             sidecar serves it.";
        restart grpc: Option<SocketAddr> => AddressOrOff, Is("\"off\""),
            "Address at which the application finds Dapr's gRPC API (`DAPR_GRPC_PORT`, 50001 with Dapr). It needs a build with the feature `grpc`, as packages have.";
        restart app: Option<String> => Text, From("none: bindings are for output only"), shown "\"http://127.0.0.1:8000\"",
            "The application, `http://HOST:PORT`, or `grpc://HOST:PORT` (feature `grpc`): it is called for each message of an input binding.";
        restart api_token_file: Option<PathBuf> => Text, From("none; required if `http` or `grpc` is no loopback address"),
            "File with the token that requests of the application must have, as the header `dapr-api-token`.";
        restart app_token_file: Option<PathBuf> => Text, From("none"),
            "File with the token that the application is sent, as the header `dapr-api-token`.";
        now components: Option<PathBuf> => Text, From("none"),
            "Dapr's component documents (YAML): a file, or a directory of `.yaml` and `.yml` files. They are read again at each reload.";
        now secrets_dir: Option<PathBuf> => Text, From("none"), shown "\"/run/secrets/forebay\"",
            "Directory of secrets for documents that name no store which is among them: the key KEY of the secret NAME is in `NAME/KEY`, or in `NAME`.";
        restart sockets: Option<PathBuf> = Text, From("none"), shown "\"/tmp/dapr-components-sockets\"",
            "Directory in which a sidecar of Dapr finds its pluggable components (`DAPR_COMPONENTS_SOCKETS_FOLDER`): Forebay is its `bindings.mqtt` and `bindings.mqtt3`. \
             It needs a build with the feature `grpc`.";
        restart socket_mode: u32 = Text, Is("\"0600\""),
            "Permissions of the files of these sockets, in octal. A sidecar may connect if it may write to them.";
    }
    and {
        /// The token that requests of the application must have.
        api_token: Option<Secret>,
        /// The token that is sent to the application.
        app_token: Option<Secret>,
    }
}
