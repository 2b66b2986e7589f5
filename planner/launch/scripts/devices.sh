#!/bin/sh
# Prints the lines of hosts.env that only a node itself knows: what its devices are called on their network.
#   sh devices.sh NODE DEVICES            NODE as in NODE_ADDRESS, DEVICES: how many the node has
#   sh devices.sh NODE DEVICES supernode  what they are called in their supernode, too
# hccn_tool and npu-smi come with the driver; on some systems only root may run them.
set -eu
if [ $# -lt 2 ]; then
  echo "usage: sh devices.sh NODE DEVICES [supernode]" >&2
  exit 2
fi
node=$1
devices=$2
PATH=$PATH:/usr/local/Ascend/driver/tools:/usr/local/bin:/usr/local/sbin

field() { sed -n "s/^[[:space:]]*$1[[:space:]]*:[[:space:]]*//p" | head -n 1 | tr -d '[:space:]'; }
pod() { npu-smi info -t spod-info -i $(($1 / 2)) -c $(($1 % 2)); } # two dies a package

addresses=
ids=
number=
i=0
while [ "$i" -lt "$devices" ]; do
  address=$(hccn_tool -i "$i" -ip -g | field ipaddr)
  [ -n "$address" ] || { echo "device $i has no address: hccn_tool -i $i -ip -g shows none" >&2; exit 1; }
  addresses=$addresses,$address
  if [ "$#" -gt 2 ]; then
    id=$(pod "$i" | field SDID)
    number=$(pod "$i" | field 'Super Pod ID')
    [ -n "$id" ] && [ -n "$number" ] || { echo "device $i is in no supernode that npu-smi knows of" >&2; exit 1; }
    ids=$ids,$id
  fi
  i=$((i + 1))
done
echo "$node""_DEVICE_IPS=$(echo "$addresses" | cut -c2-)"
if [ "$#" -gt 2 ]; then
  echo "$node""_SUPER_DEVICE_IDS=$(echo "$ids" | cut -c2-)"
  echo "$node""_SUPER_POD_ID=$number"
fi
