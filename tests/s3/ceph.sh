#!/usr/bin/env bash
# A real S3 server on 127.0.0.1: one Ceph monitor, one object store in memory, one radosgw.
#
#   ceph.sh start   install Debian's packages if they are missing (root only), start, make the bucket edc-ray
#   ceph.sh env     print the environment a client needs: eval "$(tests/s3/ceph.sh env)"
#   ceph.sh stop    end the server; everything it stored is gone
#
# EDC_RAY_S3_PORT (27480), EDC_RAY_S3_FOLDER (a folder in /tmp; short, since it holds Unix sockets).
set -euo pipefail

port=${EDC_RAY_S3_PORT:-27480}
monitor_port=$((port + 9))
folder=${EDC_RAY_S3_FOLDER:-/tmp/edc-ray-s3-$UID}
conf=$folder/ceph.conf
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
packages=(ceph-mon ceph-osd ceph-common radosgw)
export AWS_ACCESS_KEY_ID=edcraytest AWS_SECRET_ACCESS_KEY=edcraytestsecret

client_environment() {
    # Not AWS's first region: for that one some clients send a location that Ceph refuses.
    cat <<END
export AWS_ENDPOINT_URL=http://127.0.0.1:$port
export AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID
export AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
export AWS_DEFAULT_REGION=default
END
}

have_packages() {
    command -v ceph-mon ceph-osd ceph monmaptool radosgw radosgw-admin >/dev/null
}

install_packages() {
    have_packages && return
    if ! command -v apt-get >/dev/null || [ "$UID" -ne 0 ]; then
        echo "Ceph is not installed. As root, on Debian or Ubuntu: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    # Without network this should fail soon.
    local patience=(-o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)
    apt-get update -qq "${patience[@]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${patience[@]}" \
        "${packages[@]}" >/dev/null
}

is_up() {
    # Without credentials the server answers 200 or 403: either way it serves.
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

write_conf() {
    cat >"$conf" <<END
[global]
fsid = $1
mon host = v1:127.0.0.1:$monitor_port
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
# one copy of everything, because this store is deleted
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
# a nearly full disk does not matter, because objects live in memory
mon data avail crit = 1
mon data avail warn = 2
osd objectstore = memstore
memstore device bytes = 4294967296
mon data = $folder/mon
osd data = $folder/osd
rgw data = $folder/rgw
run dir = $folder/run
admin socket = $folder/run/\$name.asok
pid file = $folder/run/\$name.pid
log file = $folder/log/\$name.log
# without tcp_nodelay every small PUT waits 40 ms for an acknowledgement
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
END
}

new_uuid() { cat /proc/sys/kernel/random/uuid; }

start_daemons() {
    local fsid osd
    fsid=$(new_uuid)
    mkdir -p "$folder"/{mon,osd,rgw,run,log}
    write_conf "$fsid"
    monmaptool --create --clobber --addv a "v1:127.0.0.1:$monitor_port" --fsid "$fsid" "$folder/monmap" >/dev/null
    ceph-mon -c "$conf" --mkfs -i a --monmap "$folder/monmap"
    ceph-mon -c "$conf" -i a
    osd=$(new_uuid)
    ceph -c "$conf" osd new "$osd" >/dev/null 2>&1
    ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$osd" 2>/dev/null
    # It may speak before it has learnt the monitor's identity, and is then refused ("wrong fsid").
    for _ in 1 2 3 4 5; do ceph-osd -c "$conf" -i 0 >"$folder/log/osd.start" 2>&1 && break || sleep 1; done
    radosgw-admin -c "$conf" user create --uid=edc-ray --display-name=edc-ray \
        --access-key="$AWS_ACCESS_KEY_ID" --secret-key="$AWS_SECRET_ACCESS_KEY" >/dev/null 2>&1
    radosgw -c "$conf" -n client.rgw --no-mon-config
}

make_bucket() {
    eval "$(client_environment)"
    "$repository/.venv/bin/python" -c 'import boto3; boto3.client("s3").create_bucket(Bucket="edc-ray")'
}

start() {
    install_packages
    if ! is_up; then
        stop
        start_daemons
        for _ in $(seq 60); do is_up && break || sleep 0.5; done
        is_up || { echo "radosgw did not start; see $folder/log" >&2; exit 1; }
    fi
    make_bucket
    echo "S3 server at http://127.0.0.1:$port, bucket edc-ray. For a client:"
    echo "    eval \"\$(tests/s3/ceph.sh env)\""
}

stop() {
    local pid_file pid
    for pid_file in "$folder"/run/*.pid; do
        [ -e "$pid_file" ] || continue
        pid=$(cat "$pid_file")
        # A pid file that outlived its process may name another process.
        grep -qsF "$conf" "/proc/$pid/cmdline" || continue
        # Nothing needs to be flushed, because everything is deleted. An object store without its monitor would wait.
        kill -KILL "$pid"
    done
    rm -rf "$folder"
}

case ${1:-} in
    start) start ;;
    env) client_environment ;;
    stop) stop ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
