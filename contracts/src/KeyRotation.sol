// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Secp256k1} from "./Secp256k1.sol";
import {Stakes} from "./Stakes.sol";

/// @title KeyRotation
/// @notice Replaces a lost or stolen peer key. The owner decides and the new key agrees; the old key has no say.
abstract contract KeyRotation is Stakes {
    /// @notice The owner replaced a key: the new one is the peer from now on, with its place, activity and stake.
    event KeyRotated(address indexed oldPeer, address indexed newPeer, address indexed owner);

    bytes32 private constant ROTATION_TYPE =
        keccak256("Rotation(address oldPeer,address newPeer,address owner,uint256 nonce,uint256 deadline)");

    /// @notice Replaces the key of a peer, called by its owner. The old key is retired for good; what it has earned can
    /// still be claimed, and pays the owner.
    /// @param x The x coordinate of the new public key.
    /// @param y The y coordinate of the new public key.
    /// @param newKeySignature By the new key, over Rotation(address oldPeer,address newPeer,address owner,uint256 nonce,
    /// uint256 deadline) with the new key's nonce. A signature for a registration does not do, nor does this one for it.
    function rotateKey(address oldPeer, bytes32 x, bytes32 y, uint256 deadline, bytes calldata newKeySignature)
        external
        whenNotPaused
    {
        _requireOwner(oldPeer);
        address newPeer = Secp256k1.accountOf(x, y);
        bytes32 structHash =
            keccak256(abi.encode(ROTATION_TYPE, oldPeer, newPeer, msg.sender, _useNonce(newPeer), deadline));
        _requireKeySignature(newPeer, structHash, deadline, newKeySignature);
        _replaceKey(oldPeer, newPeer, x, y);
        _moveLink(oldPeer, newPeer);
        _moveStake(oldPeer, newPeer);
        emit KeyRotated(oldPeer, newPeer, msg.sender);
    }
}
