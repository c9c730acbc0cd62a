// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Base58} from "@openzeppelin/contracts/utils/Base58.sol";
import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";

import {Secp256k1} from "./Secp256k1.sol";

/// @title Announcements
/// @notice What peers sign in the swarm's DHT, byte for byte as swarm/network/announcements.py writes it.
library Announcements {
    /// @dev Identity multihash of a protobuf: key type secp256k1, 33 bytes of data follow.
    bytes6 private constant PEER_ID_PREFIX = 0x002508021221;

    /// @dev The libp2p peer id of the key (x, y).
    function peerIdOf(bytes32 x, bytes32 y) internal pure returns (string memory) {
        uint8 prefix = Secp256k1.prefixOf(Secp256k1.isOdd(y));
        return Base58.encode(abi.encodePacked(PEER_ID_PREFIX, prefix, x));
    }

    /// @dev The id of the swarm of this contract: chain id and address.
    function swarmId() internal view returns (string memory) {
        return string.concat(Strings.toString(block.chainid), ":", Strings.toChecksumHexString(address(this)));
    }

    /// @dev The hash that the writer of an announcement signs: the domain and five parts, each after its length.
    function digest(string memory swarm, string memory slot, string memory peerId, bytes memory value, uint64 expiryMs)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            bytes.concat(
                _part("swarm announcement 1"),
                _part(bytes(swarm)),
                _part(bytes(slot)),
                _part(bytes(peerId)),
                _part(value),
                _part(abi.encodePacked(expiryMs))
            )
        );
    }

    /// @dev Whether a slot holds one word for good: the record of a stage of a round, "<digits>/answer|critique|revise".
    /// What is said in other slots, such as a heartbeat, is rightly said again with another value.
    function isFinalSlot(string memory slot) internal pure returns (bool) {
        bytes memory text = bytes(slot);
        uint256 digits = 0;
        while (digits < text.length && text[digits] >= "0" && text[digits] <= "9") ++digits;
        if (digits == 0) return false;
        bytes memory stage = new bytes(text.length - digits);
        for (uint256 i = 0; i < stage.length; ++i) {
            stage[i] = text[digits + i];
        }
        bytes32 hash = keccak256(stage);
        return hash == keccak256("/answer") || hash == keccak256("/critique") || hash == keccak256("/revise");
    }

    function _part(bytes memory part) private pure returns (bytes memory) {
        return abi.encodePacked(uint64(part.length), part);
    }
}
