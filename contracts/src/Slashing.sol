// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Announcements} from "./Announcements.sol";
import {Secp256k1} from "./Secp256k1.sol";
import {Settlement} from "./Settlement.sol";
import {Stakes} from "./Stakes.sol";

/// @title Slashing
/// @notice Takes the stake of a peer that said two things at once, on the proof of its own two signatures. There is no
/// judge: whoever has the signatures brings them, and nobody else's word counts.
abstract contract Slashing is Settlement, Stakes {
    /// @notice A value that a peer announced, with the announcement's signature: r, s and v of 0 or 1, 65 bytes.
    struct Announcement {
        bytes value;
        uint64 expiryMs;
        bytes signature;
    }

    /// @notice The two statements are the same, which is no offence.
    error NotTwoStatements();

    /// @notice The two statements have not the same signer.
    error NotOneSigner(address first, address second);

    /// @notice The slot is not "<digits>/answer", "/critique" or "/revise"; others may be written again.
    error NotAFinalSlot(string slot);

    /// @notice The peer signed two settlements of one epoch.
    event SettlementEquivocated(address indexed signer, uint64 indexed epoch, bytes32 first, bytes32 second);

    /// @notice The peer announced two values in one slot; these are their hashes.
    event AnnouncementEquivocated(address indexed signer, string slot, bytes32 first, bytes32 second);

    /// @notice Slashes a peer that signed two different settlements of one epoch, posted or not.
    function slashSettlement(uint64 epoch, Attestation calldata first, Attestation calldata second)
        external
        nonReentrant
    {
        bytes32 firstDigest = _digest(epoch, first);
        bytes32 secondDigest = _digest(epoch, second);
        if (firstDigest == secondDigest) revert NotTwoStatements();
        address signer = ECDSA.recoverCalldata(firstDigest, first.signature);
        address other = ECDSA.recoverCalldata(secondDigest, second.signature);
        if (signer != other) revert NotOneSigner(signer, other);
        emit SettlementEquivocated(signer, epoch, firstDigest, secondDigest);
        _slash(signer);
    }

    /// @notice Slashes a peer that announced two different values in the slot of one stage of one round. The same value
    /// with another expiry is no offence.
    /// @param x The x coordinate of the peer's public key.
    /// @param y The y coordinate of the peer's public key.
    function slashAnnouncement(
        bytes32 x,
        bytes32 y,
        string calldata slot,
        Announcement calldata first,
        Announcement calldata second
    ) external nonReentrant {
        if (!Announcements.isFinalSlot(slot)) revert NotAFinalSlot(slot);
        bytes32 firstHash = keccak256(first.value);
        bytes32 secondHash = keccak256(second.value);
        if (firstHash == secondHash) revert NotTwoStatements();
        address peer = Secp256k1.accountOf(x, y);
        string memory swarm = Announcements.swarmId();
        string memory peerId = Announcements.peerIdOf(x, y);
        _requireAnnouncedBy(peer, swarm, peerId, slot, first);
        _requireAnnouncedBy(peer, swarm, peerId, slot, second);
        emit AnnouncementEquivocated(peer, slot, firstHash, secondHash);
        _slash(peer);
    }

    /// @dev OpenZeppelin takes v as 27 or 28; announcements carry it as 0 or 1.
    function _requireAnnouncedBy(
        address peer,
        string memory swarm,
        string memory peerId,
        string calldata slot,
        Announcement calldata given
    ) private pure {
        bytes memory signature = given.signature;
        if (signature.length == 65 && uint8(signature[64]) < 2) signature[64] = bytes1(uint8(signature[64]) + 27);
        bytes32 digest = Announcements.digest(swarm, slot, peerId, given.value, given.expiryMs);
        address signer = ECDSA.recover(digest, signature);
        if (signer != peer) revert NotOneSigner(peer, signer);
    }
}
