# Starts, kills and stops the NFS server under test. To be sourced, inside a namespace of its own.
#
# SERVER is `ganesha`, or the path of the program pagemill. What is exported is $export; messages go
# to $logs. The ports do not matter outside, because the network is the namespace's own.

# shellcheck shell=bash disable=SC2154

# Both may be given beforehand.
nfs_port=${nfs_port:-2049}
if [[ $SERVER = ganesha ]]; then
    mount_port=${mount_port:-2050}
else
    mount_port=$nfs_port
fi
server_pid=

# Starts the server and waits until it answers.
server_start() {
    case $SERVER in
        ganesha) start_ganesha ;;
        *) start_pagemill ;;
    esac
    local deadline=$((SECONDS + 20))
    until rpc_ping "$nfs_port" 100003 3 >/dev/null 2>&1; do
        if ! kill -0 "$server_pid" 2>/dev/null || ((SECONDS > deadline)); then
            echo "the server does not answer; its last messages:"
            tail -n 20 "$logs/server.log"
            return 1
        fi
        sleep 0.1
    done
}

# Calls the procedure that does nothing: PORT PROGRAM VERSION.
rpc_ping() {
    # The address form of rpcinfo asks no rpcbind, which its -n does.
    rpcinfo -a "127.0.0.1.$(($1 / 256)).$(($1 % 256))" -T tcp "$2" "$3"
}

start_pagemill() {
    # The key outlives the server, as it would on a machine: handles are good after a restart.
    # insecure: what comes out of the user-mode network of qemu has a high port.
    "$SERVER" nfsd --export "$export:rw,no_root_squash,insecure" \
        --listen "127.0.0.1:$nfs_port" --key-file "$logs/nfsd.key" ${SERVER_OPTIONS:-} >>"$logs/server.log" 2>&1 &
    server_pid=$!
}

start_ganesha() {
    mkdir -p /run/ganesha
    cat >"$logs/ganesha.conf" <<CONF
NFS_CORE_PARAM {
    NFS_Port = $nfs_port; MNT_Port = $mount_port; Protocols = 3;
    Enable_UDP = false; Enable_NLM = false; Enable_RQUOTA = false;
}
NFSV4 { Graceless = true; }
EXPORT {
    Export_Id = 1; Path = $export; Pseudo = /export; Protocols = 3; Transports = TCP;
    Access_Type = RW; Squash = No_Root_Squash; SecType = sys, none; PrivilegedPort = false;
    FSAL { Name = VFS; }
}
CONF
    # It registers with rpcbind or does not start.
    start_rpcbind
    ganesha.nfsd -F -f "$logs/ganesha.conf" -p "/run/ganesha.pid" -L "$logs/server.log" \
        -N NIV_EVENT &
    server_pid=$!
}

# Starts an rpcbind for this namespace, if there is none.
start_rpcbind() {
    rpcinfo -p 127.0.0.1 >/dev/null 2>&1 && return
    mkdir -p /run/rpcbind
    rpcbind
}

# Ends the server at once, as a crash would.
server_kill() {
    kill -KILL "$server_pid"
    wait "$server_pid" 2>/dev/null || true
    server_pid=
}

# Asks the server to stop and waits until it has.
server_stop() {
    local pid=$server_pid deadline=$((SECONDS + 20))
    server_pid=
    [[ -n $pid ]] || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do
        if ((SECONDS > deadline)); then
            echo "the server did not stop within 20 s of SIGTERM"
            kill -KILL "$pid"
            wait "$pid" 2>/dev/null || true
            return 1
        fi
        sleep 0.1
    done
    local code=0
    wait "$pid" || code=$?
    # nfs-ganesha gives no promise about its exit code.
    [[ $code = 0 || $SERVER = ganesha ]] || { echo "the server ended with $code"; return 1; }
}
