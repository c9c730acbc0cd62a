// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";

/// @title Consent
/// @notice EIP-712 signatures over this chain and this contract, each good once and until its deadline.
/// @dev A signature that was made for another nonce, contract or chain recovers to another account, and so is refused
/// like a forged one. OpenZeppelin refuses the malleable second form of a signature.
abstract contract Consent is EIP712, Nonces {
    /// @notice The deadline of the signature has passed.
    error SignatureExpired(uint256 deadline);

    /// @notice The signature is not one by `signer` over this call, its nonce, this contract and this chain.
    error SignatureNotBy(address signer);

    constructor() EIP712("SwarmRegistry", "2") {}

    /// @dev Requires the signature of a peer key. Code at the account (EIP-7702) is not asked: the key itself must sign.
    function _requireKeySignature(address peer, bytes32 structHash, uint256 deadline, bytes calldata signature)
        internal
        view
    {
        _requireInTime(deadline);
        // slither-disable-next-line unused-return (a failed recovery gives the zero address, which is no peer)
        (address signer,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), signature);
        if (signer != peer) revert SignatureNotBy(peer);
    }

    /// @dev Requires the signature of an owner, which may be a contract that speaks ERC-1271.
    function _requireOwnerSignature(address owner, bytes32 structHash, uint256 deadline, bytes calldata signature)
        internal
        view
    {
        _requireInTime(deadline);
        if (!SignatureChecker.isValidSignatureNowCalldata(owner, _hashTypedDataV4(structHash), signature)) {
            revert SignatureNotBy(owner);
        }
    }

    /// @dev Whether the sender speaks for `party` by the transaction itself, without a signature.
    function _isSender(address party, bytes calldata signature) internal view returns (bool) {
        return signature.length == 0 && msg.sender == party;
    }

    function _requireInTime(uint256 deadline) private view {
        if (block.timestamp > deadline) revert SignatureExpired(deadline);
    }
}
